"""The named points at which a process can be made to kill itself, and the app that does it.

The environment says what is to happen in a process with ``tests.crash.settings``:

``TRAWL_CRASH_AT=commit.inside:3:worker``
    SIGKILL at the third passage of that point, in a worker (``fetcher.worker``) or in the command.
``TRAWL_CRASH_MARKER=path``
    The file that says that the shot was fired, by whom and when. While it exists nobody else fires.
``TRAWL_CRASH_URL=text``
    SIGKILL to every process that is about to request a URL with this text in it, as a target that crashes its process.
``TRAWL_CRASH_PASSAGES=path``
    Nobody dies; every passage of every point is written to this file instead.

Only functions of our own are wrapped, found by name: one that is renamed is an error at the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import inspect
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured

AT, MARKER, PASSAGES = "TRAWL_CRASH_AT", "TRAWL_CRASH_MARKER", "TRAWL_CRASH_PASSAGES"
URL = "TRAWL_CRASH_URL"
COMMAND, WORKER = "command", "worker"
ALONE, FIRST, HELPER, RESUMED = "alone", "first", "helper", "resumed"
"""Who is killed: the command that fetches by itself, the command with helpers, a helper of it, the command that resumes
what was killed while it was being planned."""

_ALL = frozenset({ALONE, FIRST, HELPER, RESUMED})
_READING = frozenset({ALONE, FIRST, RESUMED})
_BEGINNING = frozenset({ALONE, FIRST})
_SOON = 0.01
"""Seconds into a wait for a retry."""


@dataclass(frozen=True, slots=True)
class Point:
    """A moment in a function of ours: ``before`` it, ``after`` it returned, or ``waiting`` after it said to wait.

    ``who`` can be killed there, because it passes there in every run.
    """

    name: str
    function: str
    moment: str
    who: frozenset[str] = _ALL


POINTS = {
    point.name: point
    for point in (
        Point("begin.after", "fetcher.lead:Lead._begin", "after", _BEGINNING),
        Point("resume.inside", "fetcher.store.runs:resume", "after", frozenset({RESUMED})),
        Point("resume.after", "fetcher.lead:Lead._take_up", "after", frozenset({RESUMED})),
        Point("resume.loaded", "fetcher.store.plan:Planner.load", "after", frozenset({RESUMED})),
        Point("plan.before", "fetcher.store.plan:Planner.add", "before", _READING),
        Point("plan.written", "fetcher.store.lanes:ShardWriter.write", "after", _READING),
        Point("plan.counted", "fetcher.store.plan:RunPlan.advance", "after", _READING),
        Point("plan.after", "fetcher.store.plan:Planner.add", "after", _READING),
        Point("planned.before", "fetcher.store.runs:planned", "before", _READING),
        Point("planned.after", "fetcher.store.runs:planned", "after", _READING),
        Point("lease.before", "fetcher.store.leases:hold_lanes", "before"),
        Point("lease.inside", "fetcher.store.leases:_take", "after"),
        Point("lease.after", "fetcher.store.leases:hold_lanes", "after"),
        Point("send.before", "fetcher.engine.client:Client.send", "before"),
        Point("response.after", "fetcher.engine.client:Client.send", "after"),
        Point("commit.before", "fetcher.store.record:Recorder.record", "before"),
        Point("commit.counted", "fetcher.store.record:Recorder._count", "after"),
        Point("commit.inserted", "fetcher.store.record:insert_rows", "after"),
        Point("commit.after", "fetcher.store.record:Recorder.record", "after"),
        Point("flush.before", "fetcher.sink:Sink._save", "before"),
        Point("flush.after", "fetcher.sink:Sink._save", "after"),
        Point("renew.before", "fetcher.store.leases:renew", "before"),
        Point("renew.after", "fetcher.store.leases:renew", "after"),
        Point("retry.waiting", "fetcher.engine.retry:RetryPolicy.decide", "waiting"),
        Point("end.before", "fetcher.store.leases:let_go", "before"),
        Point("end.inside", "fetcher.store.leases:let_go", "after"),
        Point("finish.inside", "fetcher.store.runs:finish", "after", _READING),
        Point("finish.after", "fetcher.lead:Lead._end", "after", _READING),
    )
}

SHORTENED = {"fetcher.store.leases:RENEWAL": 0.2, "fetcher.reading:CAPACITY": 60}
"""So that a run of a second or two renews its lease, and plans its list in many steps."""


class Points(AppConfig):
    """Puts the points in as soon as the models are there."""

    name = "tests.crash"
    label = "crash"
    path = str(Path(__file__).parent)

    def ready(self) -> None:
        """Wrap what the environment names."""
        for name, value in SHORTENED.items():
            owner, attribute = find(name)
            setattr(owner, attribute, value)
        if passages := os.environ.get(PASSAGES):
            for point in POINTS.values():
                wrap(point, functools.partial(_note, passages, point))
        elif text := os.environ.get(URL):
            _die_of(text)
        elif at := os.environ.get(AT):
            name, number, wanted = at.split(":")
            if wanted == role():
                wrap(POINTS[name], _at_passage(int(number), functools.partial(_shoot, Path(os.environ[MARKER]), at)))


def role() -> str:
    """Return which kind of process this is."""
    return WORKER if "fetcher.worker" in sys.orig_argv else COMMAND


def find(name: str) -> tuple[Any, str]:
    """Return the module or class that holds ``module:name`` or ``module:Class.name``, and the last part.

    Raises ImproperlyConfigured where there is none.
    """
    module, _, path = name.partition(":")
    *outer, attribute = path.split(".")
    try:
        owner = functools.reduce(getattr, outer, importlib.import_module(module))
        getattr(owner, attribute)
    except (ImportError, AttributeError) as exc:
        raise ImproperlyConfigured(f"tests.crash.points names {name}, which does not exist any more: {exc}") from None
    return owner, attribute


def wrap(point: Point, passed: Callable[[], None]) -> None:
    """Have ``passed`` called whenever a process passes a point."""
    owner, attribute = find(point.function)
    original = getattr(owner, attribute)

    def enter() -> None:
        if point.moment == "before":
            passed()

    def leave(value: Any) -> None:
        if point.moment == "after":
            passed()
        elif point.moment == "waiting" and value is not None:
            asyncio.get_running_loop().call_later(_SOON, passed)

    @functools.wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        enter()
        value = original(*args, **kwargs)
        leave(value)
        return value

    @functools.wraps(original)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        enter()
        value = await original(*args, **kwargs)
        leave(value)
        return value

    setattr(owner, attribute, awaited if inspect.iscoroutinefunction(original) else called)


def _at_passage(number: int, act: Callable[[], None]) -> Callable[[], None]:
    counter, lock = itertools.count(1), threading.Lock()

    def passed() -> None:
        with lock:
            passage = next(counter)
        if passage == number:
            act()

    return passed


def _shoot(marker: Path, at: str) -> None:
    """Kill this process, unless another one was killed before."""
    own = marker.with_name(f"{marker.name}.{os.getpid()}")
    own.write_text(json.dumps({"pid": os.getpid(), "at": at, "time": time.time(), "monotonic": time.monotonic()}))
    with contextlib.suppress(FileExistsError):
        os.link(own, marker)  # at once and whole, and by one process only
        os.kill(os.getpid(), signal.SIGKILL)


def _die_of(text: str) -> None:
    owner, attribute = find("fetcher.engine.client:Client.send")
    original = getattr(owner, attribute)

    async def send(self: Any, hop: Any, *args: Any, **kwargs: Any) -> Any:
        if text in hop.url.href:
            os.kill(os.getpid(), signal.SIGKILL)
        return await original(self, hop, *args, **kwargs)

    setattr(owner, attribute, send)


def _note(path: str, point: Point) -> None:
    line = f"{role()} {os.getpid()} {point.name} {time.monotonic()}\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)
