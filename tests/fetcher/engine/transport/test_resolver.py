"""Look-ups are shared, kept for a while, bounded, and never hold up anything else."""

import asyncio
import contextlib
import errno
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from fetcher.engine.errors import LocalFault, NameResolutionError
from fetcher.engine.transport import resolver as resolver_module
from fetcher.engine.transport.resolver import CONTROL_NAME, Resolver, system_lookup
from tests.support.descriptors import no_descriptors_left


class Script:
    """A look-up that counts its calls and answers from a list, the last entry for ever."""

    def __init__(self, *answers: list[str] | Exception | Callable[[], None]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, list) else [f"answer to {answer()}"]


async def test_answers_are_kept() -> None:
    script = Script(["192.0.2.1"])
    resolver = Resolver(script)
    assert await resolver.resolve("a.test") == ("192.0.2.1",)
    assert await resolver.resolve("a.test") == ("192.0.2.1",)
    assert script.asked == ["a.test"]
    resolver.close()


async def test_what_is_kept_is_known_without_waiting_as_one_object() -> None:
    resolver = Resolver(Script(["192.0.2.1"]))
    assert resolver.known("a.test") is None
    found = await resolver.resolve("a.test")
    assert resolver.known("a.test") is resolver.known("a.test") is found
    resolver.close()


@pytest.mark.parametrize(("answer", "ttl"), [(["192.0.2.1"], 0), (socket.gaierror(socket.EAI_NONAME, ""), 30)])
async def test_neither_what_is_over_nor_a_failure_is_known(answer: list[str] | Exception, ttl: float) -> None:
    resolver = Resolver(Script(answer), ttl=ttl)
    with contextlib.suppress(NameResolutionError):
        await resolver.resolve("a.test")
    assert resolver.known("a.test") is None
    resolver.close()


async def test_answers_are_kept_no_longer_than_told() -> None:
    script = Script(["192.0.2.1"], ["192.0.2.2"])
    resolver = Resolver(script, ttl=0)
    assert await resolver.resolve("a.test") == ("192.0.2.1",)
    assert await resolver.resolve("a.test") == ("192.0.2.2",)
    resolver.close()


async def test_concurrent_questions_for_one_name_are_one_look_up() -> None:
    script = Script(["192.0.2.1"])
    resolver = Resolver(script, ttl=0)
    await asyncio.gather(*(resolver.resolve("a.test") for _ in range(50)))
    assert script.asked == ["a.test"]
    resolver.close()


async def test_no_more_look_ups_run_at_once_than_there_are_threads() -> None:
    running, peak, lock = 0, 0, threading.Lock()

    def lookup(host: str) -> list[str]:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return ["192.0.2.1"]

    resolver = Resolver(lookup, threads=3)
    await asyncio.gather(*(resolver.resolve(f"{number}.test") for number in range(20)))
    assert peak == 3
    resolver.close()


@pytest.mark.parametrize(
    ("error", "permanent", "says"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), True, "the name a.test does not exist"),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), False, "cannot be looked up: Non-recoverable"),
        (UnicodeError("label too long"), True, "is not a host name"),
        (OSError("odd"), False, "cannot be looked up: odd"),
    ],
)
async def test_failures_say_whether_they_last(error: Exception, permanent: bool, says: str) -> None:
    resolver = Resolver(Script(error))
    with pytest.raises(NameResolutionError, match=says) as caught:
        await resolver.resolve("a.test")
    assert caught.value.permanent is permanent
    resolver.close()


async def test_a_name_whose_own_servers_do_not_answer_fails_for_now() -> None:
    asked = []

    def lookup(host: str) -> list[str]:
        asked.append(host)
        number = socket.EAI_NONAME if host == CONTROL_NAME else socket.EAI_AGAIN
        raise socket.gaierror(number, "")

    resolver = Resolver(lookup)
    with pytest.raises(NameResolutionError, match=r"no name server answered for a\.test") as caught:
        await resolver.resolve("a.test")
    assert caught.value.permanent is False
    assert asked == ["a.test", CONTROL_NAME]
    resolver.close()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "no name server answers this machine"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.EACCES, "Permission denied"), "this machine cannot look names up: Permission denied"),
        (socket.gaierror(socket.EAI_MEMORY, "Memory allocation failure"), "Memory allocation failure"),
    ],
)
async def test_look_up_names_this_machine_when_it_can_look_no_name_up(error: Exception, says: str) -> None:
    resolver = Resolver(Script(error))
    with pytest.raises(LocalFault, match=says):
        await resolver.resolve("a.test")
    resolver.close()


async def test_look_up_names_this_machine_when_it_has_no_descriptor_left() -> None:
    """getaddrinfo(3) calls a name unknown when it cannot open its own files."""
    resolver = Resolver(Script(socket.gaierror(socket.EAI_NONAME, "Name or service not known")))
    with no_descriptors_left(), pytest.raises(LocalFault, match="ulimit -n"):
        await resolver.resolve("a.test")
    resolver.close()


async def test_timed_out_look_up_names_this_machine_when_no_name_server_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolver_module, "STALL_SECONDS", 0.02)
    release = threading.Event()

    def lookup(host: str) -> list[str]:
        release.wait(30)
        return ["192.0.2.1"]

    resolver = Resolver(lookup)
    with pytest.raises(LocalFault, match="no name server answers this machine"):
        await resolver.look_up("a.test", 0.3)
    release.set()
    resolver.close()


async def test_timed_out_look_up_is_the_names_own_when_other_names_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolver_module, "STALL_SECONDS", 0.02)
    release = threading.Event()

    def lookup(host: str) -> list[str]:
        if host == "hung.test":
            release.wait(30)
        return ["192.0.2.1"]

    resolver = Resolver(lookup)
    with pytest.raises(TimeoutError):
        await resolver.look_up("hung.test", 0.3)
    release.set()
    resolver.close()


async def test_a_name_without_addresses_is_a_failure() -> None:
    resolver = Resolver(Script([]))
    with pytest.raises(NameResolutionError, match=r"a\.test has no address"):
        await resolver.resolve("a.test")
    resolver.close()


@pytest.mark.parametrize("host", ["", "ü.test", "a\0b.test"])
async def test_what_is_no_host_name_is_not_looked_up(host: str) -> None:
    script = Script(["192.0.2.1"])
    with pytest.raises(NameResolutionError, match="is not a host name"):
        await Resolver(script).resolve(host)
    assert script.asked == []


async def test_a_hung_look_up_delays_no_other_and_can_be_left() -> None:
    release = threading.Event()

    def lookup(host: str) -> list[str]:
        if host == "hung.test":
            release.wait(30)
        return ["192.0.2.1"]

    resolver = Resolver(lookup, threads=2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await resolver.resolve("hung.test")
    assert await resolver.resolve("other.test") == ("192.0.2.1",)
    release.set()
    resolver.close()


async def test_a_question_that_nobody_waits_for_is_not_asked() -> None:
    release = threading.Event()
    asked = []

    def lookup(host: str) -> list[str]:
        asked.append(host)
        if host == "hung.test":
            release.wait(30)
        return ["192.0.2.1"]

    resolver = Resolver(lookup, threads=1)
    hung = asyncio.create_task(resolver.resolve("hung.test"))
    await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await resolver.resolve("left.test")
    release.set()
    assert await hung == ("192.0.2.1",)
    assert await resolver.resolve("next.test") == ("192.0.2.1",)
    assert asked == ["hung.test", "next.test"]
    resolver.close()


async def test_one_who_leaves_does_not_take_the_answer_from_the_others() -> None:
    release = threading.Event()

    def lookup(host: str) -> list[str]:
        release.wait(30)
        return ["192.0.2.1"]

    resolver = Resolver(lookup)
    leaver = asyncio.create_task(resolver.resolve("a.test"))
    stayer = asyncio.create_task(resolver.resolve("a.test"))
    await asyncio.sleep(0)
    leaver.cancel()
    release.set()
    assert await stayer == ("192.0.2.1",)
    resolver.close()


def test_a_hung_look_up_does_not_delay_the_end_of_the_process() -> None:
    program = """
import asyncio, time
from fetcher.engine.transport.resolver import Resolver
async def main():
    try:
        async with asyncio.timeout(0.05):
            await Resolver(lambda host: time.sleep(60)).resolve("hung.test")
    except TimeoutError:
        print("left")
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)
    assert (done.stdout, done.stderr) == ("left\n", "")


def test_the_system_knows_the_local_host() -> None:
    assert set(system_lookup("localhost")) <= {"127.0.0.1", "::1"}
