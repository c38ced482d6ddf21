"""Many targets at once: bounds, politeness, retries, redirects, and what happens when something breaks."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from fetcher.demo.origin import Origin
from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import FetchConfig
from fetcher.engine.errors import ErrorKind, NameResolutionError
from fetcher.engine.runner import Meter, fetch_all
from fetcher.engine.types import Outcome, Status, Target, Validators
from fetcher.engine.urls import parse_url
from tests.support.waiting import until

Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]
BOUND = 10
"""Seconds after which a test that hangs has failed."""
LOOPBACK = (AllowedNetwork.parse("127.0.0.0/8"),)


def target(url: str, **other: Any) -> Target:
    parsed = parse_url(url)
    return Target(parsed.href, parsed.host, **other)


def targets(count: int, host: str = "a.example") -> list[Target]:
    return [target(f"http://{host}/{number}") for number in range(count)]


def config(**options: Any) -> FetchConfig:
    return FetchConfig(**{"backoff_base": 0, **options})


class Network(httpx.AsyncBaseTransport):
    """Answers by a script and counts what it sees."""

    def __init__(self, script: Answer | None = None, pause: float = 0.0) -> None:
        self.script = script
        self.pause = pause
        self.in_flight = 0
        self.peak = 0
        self.by_host: Counter[str] = Counter()
        self.peaks: Counter[str] = Counter()
        self.began: dict[str, list[float]] = defaultdict(list)
        self.seen: list[str] = []
        self.cancelled = 0
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        self.in_flight += 1
        self.by_host[host] += 1
        self.peak = max(self.peak, self.in_flight)
        self.peaks[host] = max(self.peaks[host], self.by_host[host])
        self.began[host].append(asyncio.get_running_loop().time())
        self.seen.append(str(request.url))
        try:
            await asyncio.sleep(self.pause)
            return httpx.Response(200) if self.script is None else await self.script(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1
            self.by_host[host] -= 1

    async def aclose(self) -> None:
        self.closed = True


def once_failing(status: int = 503, headers: dict[str, str] | None = None, host: str = "") -> Answer:
    """Return a script that fails the first request for each URL of a host (or any)."""
    visits: Counter[str] = Counter()

    async def script(request: httpx.Request) -> httpx.Response:
        url = str(request.url)
        visits[url] += 1
        fails = visits[url] == 1 and request.url.host.startswith(host)
        return httpx.Response(status, headers=headers) if fails else httpx.Response(200)

    return script


def always(response: Callable[[], httpx.Response]) -> Answer:
    async def script(request: httpx.Request) -> httpx.Response:
        return response()

    return script


async def fetched(source: Any, network: httpx.AsyncBaseTransport | None = None, **options: Any) -> list[Outcome]:
    async with asyncio.timeout(BOUND):
        return [outcome async for outcome in fetch_all(source, config(**options), transport=network)]


async def fetched_one(one: Target, script: Answer, **options: Any) -> Outcome:
    (outcome,) = await fetched([one], Network(script), **options)
    return outcome


class TestOutcomes:
    async def test_nothing_comes_of_nothing(self) -> None:
        assert await fetched([], Network()) == []

    async def test_each_target_has_one_outcome_from_a_plain_source(self) -> None:
        outcomes = await fetched(iter(targets(50)), Network())

        assert {outcome.target for outcome in outcomes} == set(targets(50))
        assert {outcome.status for outcome in outcomes} == {Status.SUCCEEDED}

    async def test_and_from_an_asynchronous_one(self) -> None:
        async def source() -> AsyncIterator[Target]:
            for one in targets(50):
                await asyncio.sleep(0)
                yield one

        assert {outcome.target for outcome in await fetched(source(), Network())} == set(targets(50))

    async def test_they_come_in_the_order_in_which_they_finish(self) -> None:
        async def script(request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(0.06 - 0.02 * int(request.url.path[1:]))
            return httpx.Response(200)

        outcomes = await fetched(targets(3), Network(script))

        assert [outcome.target for outcome in outcomes] == targets(3)[::-1]

    async def test_one_worker_is_enough(self) -> None:
        network = Network()

        assert len(await fetched(targets(20) + targets(20, "b.example"), network, concurrency=1, look_ahead=1)) == 40
        assert network.peak == 1

    async def test_two_thousand_targets_with_random_troubles_have_one_outcome_each(self) -> None:
        dice = random.Random(7)
        troubles: list[Exception | int] = [
            httpx.ConnectError("x"), httpx.ReadTimeout("x"), httpx.RemoteProtocolError("x"), RuntimeError("x"),
            NameResolutionError("x", permanent=True), 200, 200, 200, 302, 404, 429, 500, 503,
        ]  # fmt: skip

        async def script(request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(dice.random() / 1000)
            trouble = dice.choice(troubles)
            if isinstance(trouble, Exception):
                raise trouble
            location = f"http://h{dice.randrange(50)}.example/moved"
            return httpx.Response(trouble, headers={"Location": location, "Retry-After": "0"})

        source = [target(f"http://h{number % 50}.example/{number}", key=number) for number in range(2000)]
        network, meter = Network(script), Meter()
        async with asyncio.timeout(30):
            made = fetch_all(iter(source), config(concurrency=40, per_host=3), transport=network, meter=meter)
            outcomes = [outcome async for outcome in made]

        assert sorted(outcome.target.key for outcome in outcomes) == list(range(2000))  # type: ignore[type-var]
        assert network.peak <= 40
        assert max(network.peaks.values()) <= 3
        assert (meter.held, meter.in_flight) == (0, 0)
        assert meter.peak == network.peak

    async def test_an_outcome_tells_of_its_attempt(self) -> None:
        async def script(request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, headers={"X": "1"}, content=b"body")

        outcome = await fetched_one(target("http://a.example/"), script)

        assert (outcome.http_status, outcome.body, outcome.header("x")) == (200, b"body", "1")
        (attempt,) = outcome.attempts
        assert (attempt.number, attempt.http_status, attempt.error_kind, attempt.waited) == (1, 200, None, None)
        assert outcome.started_at == attempt.started_at
        assert outcome.started_at <= outcome.finished_at
        assert attempt.timings.total == attempt.elapsed <= outcome.elapsed
        assert attempt.timings.first_byte is not None

    @pytest.mark.parametrize("status", [400, 404, 410, 501])
    async def test_an_error_status_is_a_failure_with_its_body(self, status: int) -> None:
        outcome = await fetched_one(target("http://a.example/"), always(lambda: httpx.Response(status, content=b"why")))

        assert (outcome.status, outcome.error_kind, outcome.http_status) == (
            Status.FAILED,
            ErrorKind.HTTP_STATUS,
            status,
        )
        assert outcome.body == b"why"
        assert outcome.error_detail.startswith(f"HTTP {status} ")

    async def test_a_304_is_not_modified_only_where_it_was_asked_for(self) -> None:
        validators = Validators('"x"', "", "http://a.example/")
        asked = await fetched_one(
            target("http://a.example/", validators=validators), always(lambda: httpx.Response(304))
        )
        unasked = await fetched_one(target("http://a.example/"), always(lambda: httpx.Response(304)))

        assert (asked.status, asked.error_kind) == (Status.NOT_MODIFIED, None)
        assert (unasked.status, unasked.error_kind) == (Status.FAILED, ErrorKind.PROTOCOL)

    async def test_a_target_that_is_no_url_fails_by_itself(self) -> None:
        (outcome,) = await fetched([Target("ftp://a.example/", "a.example:21")], Network())

        assert (outcome.status, outcome.error_kind) == (Status.FAILED, ErrorKind.INVALID_URL)


class TestBounds:
    async def test_no_more_in_flight_than_allowed(self) -> None:
        network = Network(pause=0.005)
        source = [one for host in range(10) for one in targets(10, f"h{host}.example")]
        await fetched(source, network, concurrency=7, per_host=2)

        assert network.peak == 7
        assert max(network.peaks.values()) == 2

    async def test_the_source_is_read_only_so_far_ahead(self) -> None:
        pulled = 0
        gate = asyncio.Event()

        def source() -> Iterator[Target]:
            nonlocal pulled
            for one in targets(1000):
                pulled += 1
                yield one

        async def script(request: httpx.Request) -> httpx.Response:
            await gate.wait()
            return httpx.Response(200)

        network = Network(script)
        running = asyncio.create_task(fetched(source(), network, concurrency=4, look_ahead=3))
        await until(lambda: network.in_flight == 4)
        await asyncio.sleep(0.02)

        assert pulled == 12
        gate.set()
        assert len(await running) == 1000

    async def test_while_outcomes_are_not_taken_nothing_more_is_sent(self) -> None:
        network = Network()
        outcomes = fetch_all(iter(targets(1000)), config(concurrency=4, look_ahead=3), transport=network)
        async with asyncio.timeout(BOUND), aclosing(outcomes):  # type: ignore[type-var]
            await anext(outcomes)
            await asyncio.sleep(0.05)
            assert len(network.seen) <= 13
            assert len([outcome async for outcome in outcomes]) == 999

    async def test_a_meter_may_be_used_again(self) -> None:
        meter = Meter()
        outcomes = fetch_all(targets(10), config(), transport=Network(), meter=meter)
        async with aclosing(outcomes):  # type: ignore[type-var]
            await anext(outcomes)
        assert meter.held == 0

        async with asyncio.timeout(BOUND):
            again = [outcome async for outcome in fetch_all(targets(10), config(), transport=Network(), meter=meter)]
        assert len(again) == 10


class TestPoliteness:
    async def test_requests_to_one_host_are_a_host_delay_apart(self) -> None:
        network, start = Network(), asyncio.get_running_loop().time()
        await fetched(targets(5) + targets(5, "b.example"), network, host_delay=0.03)

        for began in network.began.values():
            assert len(began) == 5
            # From the start: a machine that holds one request up before it is seen makes the next gap look shorter.
            assert all(moment - start >= 0.03 * number for number, moment in enumerate(began))

    async def test_slow_answers_do_not_stretch_the_host_delay(self) -> None:
        """All five must be in flight at once; none is answered before."""
        network = Network()

        async def script(request: httpx.Request) -> httpx.Response:
            await until(lambda: network.peak == 5)
            return httpx.Response(200)

        network.script = script
        outcomes = await fetched(targets(5), network, host_delay=0.02)

        assert {outcome.status for outcome in outcomes} == {Status.SUCCEEDED}

    async def test_a_retry_after_pauses_the_whole_host_and_no_other(self) -> None:
        network = Network(once_failing(429, {"Retry-After": "1"}, host="a."))
        source = [*targets(1), *targets(4, "b.example"), target("http://a.example/later")]
        order = [outcome.target.host for outcome in await fetched(source, network, concurrency=1)]

        first, *others = network.began["a.example"]
        assert min(others) - first >= 1
        assert max(network.began["b.example"]) - first < 0.9
        assert order[:4] == ["b.example:80"] * 4

    async def test_a_retry_after_counts_only_with_statuses_that_mean_it(self) -> None:
        script = once_failing(500, {"Retry-After": "60"})

        assert (await fetched_one(target("http://a.example/"), script)).status is Status.SUCCEEDED

    async def test_a_backoff_holds_no_slot(self) -> None:
        first, *others = [target("http://a.example/first"), *targets(5)]

        async def script(request: httpx.Request) -> httpx.Response:
            return httpx.Response(500 if request.url.path == "/first" else 200)

        network = Network(script)
        patient = config(concurrency=1, per_host=1, backoff_base=300, backoff_max=300)
        outcomes = fetch_all([first, *others], patient, transport=network)
        async with asyncio.timeout(BOUND), aclosing(outcomes):  # type: ignore[type-var]
            done = [(await anext(outcomes)).target for _ in others]

        assert done == others
        assert network.seen[0] == first.url

    async def test_a_redirect_takes_a_slot_of_the_host_it_leads_to(self) -> None:
        async def script(request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(0.002)
            if request.url.host != "b.example":
                return httpx.Response(302, headers={"Location": f"http://b.example{request.url.path}"})
            return httpx.Response(200)

        network = Network(script)
        source = [target(f"http://h{number}.example/{number}") for number in range(20)]
        outcomes = await fetched(source, network, per_host=2)

        assert network.peaks["b.example"] == 2
        assert {outcome.final_url for outcome in outcomes} == {f"http://b.example/{number}" for number in range(20)}


class TestDeadHosts:
    async def test_the_rest_of_a_host_that_never_answers_is_skipped(self) -> None:
        async def script(request: httpx.Request) -> httpx.Response:
            if request.url.host == "b.example":
                return httpx.Response(200)
            raise NameResolutionError("no such host", permanent=True)

        network = Network(script)
        outcomes = await fetched(
            targets(10) + targets(10, "b.example"), network, host_failures=3, per_host=1, concurrency=2
        )
        lost = [outcome for outcome in outcomes if outcome.target.host == "a.example:80"]

        assert Counter(outcome.status for outcome in lost) == {Status.FAILED: 3, Status.SKIPPED: 7}
        assert {outcome.error_kind for outcome in lost} == {ErrorKind.DNS}
        assert all(not outcome.attempts for outcome in lost if outcome.status is Status.SKIPPED)
        assert len(network.began["a.example"]) == 3
        assert len(network.began["b.example"]) == 10

    @pytest.mark.parametrize("failures", [httpx.ReadError("reset"), RuntimeError("defect")])
    async def test_other_failures_give_no_host_up(self, failures: Exception) -> None:
        async def script(request: httpx.Request) -> httpx.Response:
            raise failures

        outcomes = await fetched(targets(10), Network(script), host_failures=3, max_attempts=1)

        assert {outcome.status for outcome in outcomes} == {Status.FAILED}

    async def test_an_answer_whose_body_breaks_off_is_a_sign_of_life(self) -> None:
        class Broken(httpx.AsyncByteStream):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                raise httpx.ReadError("reset")
                yield b""

        async def script(request: httpx.Request) -> httpx.Response:
            if int(request.url.path[1:]) % 2:
                return httpx.Response(200, stream=Broken())
            raise httpx.ConnectError("refused")

        outcomes = await fetched(targets(10), Network(script), host_failures=2, max_attempts=1, concurrency=1)

        assert {outcome.status for outcome in outcomes} == {Status.FAILED}

    async def test_a_retry_that_a_dead_host_does_not_get_leaves_the_failure_as_it_was(self) -> None:
        async def script(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused")

        outcomes = await fetched(
            targets(4), Network(script), host_failures=3, concurrency=1, backoff_base=300, backoff_max=300
        )
        failed = [outcome for outcome in outcomes if outcome.status is Status.FAILED]

        assert len(failed) == 3
        assert {outcome.error_detail for outcome in failed} == {"refused"}
        assert {attempt.waited for outcome in failed for attempt in outcome.attempts} == {None}

    async def test_a_redirect_to_a_dead_host_fails_with_its_kind_and_without_a_status(self) -> None:
        async def script(request: httpx.Request) -> httpx.Response:
            if request.url.host == "dead.example":
                raise NameResolutionError("no such host", permanent=True)
            return httpx.Response(302, headers={"Location": "http://dead.example/"})

        source = [*targets(1, "dead.example"), target("http://a.example/")]
        (_, outcome) = await fetched(source, Network(script), host_failures=1, concurrency=1)

        assert (outcome.status, outcome.error_kind, outcome.http_status) == (Status.FAILED, ErrorKind.DNS, None)
        assert [redirect.status for redirect in outcome.redirects] == [302]
        assert len(outcome.attempts) == 1


class TestRetries:
    async def test_every_attempt_is_recorded_with_the_wait_behind_it(self) -> None:
        outcome = await fetched_one(
            target("http://a.example/"), always(lambda: httpx.Response(503)), max_attempts=3, backoff_base=0.01
        )

        assert [attempt.number for attempt in outcome.attempts] == [1, 2, 3]
        assert [attempt.wait_reason for attempt in outcome.attempts] == ["backoff", "backoff", None]
        first, second, third = outcome.attempts
        assert first.waited is not None
        assert second.waited is not None
        assert third.waited is None
        assert second.started_at - first.started_at >= first.waited - 0.001
        assert {attempt.error_kind for attempt in outcome.attempts} == {ErrorKind.HTTP_STATUS}
        assert outcome.elapsed >= first.waited + second.waited

    async def test_what_succeeds_in_the_end_has_succeeded(self) -> None:
        outcome = await fetched_one(target("http://a.example/"), once_failing(429, {"Retry-After": "0"}))

        assert (outcome.status, outcome.error_kind, outcome.http_status) == (Status.SUCCEEDED, None, 200)
        assert [(attempt.http_status, attempt.wait_reason) for attempt in outcome.attempts] == [
            (429, "retry_after"),
            (200, None),
        ]

    @pytest.mark.parametrize(("opted_in", "attempts"), [(False, 1), (True, 2)])
    async def test_an_unsafe_method_only_with_consent(self, opted_in: bool, attempts: int) -> None:
        outcome = await fetched_one(
            target("http://a.example/", method="POST", body=b"x", retry=opted_in), once_failing()
        )

        assert len(outcome.attempts) == attempts

    async def test_the_total_deadline_ends_retrying(self) -> None:
        outcome = await fetched_one(
            target("http://a.example/"),
            always(lambda: httpx.Response(503, headers={"Retry-After": "2"})),
            total_deadline=1,
        )

        assert len(outcome.attempts) == 1
        assert outcome.error_kind is ErrorKind.HTTP_STATUS

    async def test_the_total_deadline_cuts_an_attempt_short(self) -> None:
        async def script(request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(60)
            raise AssertionError

        outcome = await fetched_one(target("http://a.example/"), script, total_deadline=0.05)

        assert (outcome.error_kind, len(outcome.attempts)) == (ErrorKind.TIMEOUT, 1)

    async def test_the_deadline_spans_the_redirects_of_an_attempt(self) -> None:
        async def script(request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(0.04)
            return httpx.Response(302, headers={"Location": f"{request.url.path}0"})

        outcome = await fetched_one(target("http://a.example/1"), script, deadline=0.1, max_attempts=1)

        assert (outcome.status, outcome.error_kind) == (Status.FAILED, ErrorKind.TIMEOUT)
        assert 1 <= len(outcome.redirects) <= 2

    async def test_a_retry_begins_at_the_targets_own_url(self) -> None:
        fails = iter([True, False])

        async def script(request: httpx.Request) -> httpx.Response:
            if request.url.host == "a.example":
                return httpx.Response(302, headers={"Location": "http://b.example/"})
            return httpx.Response(503 if next(fails) else 200)

        network = Network(script)
        (outcome,) = await fetched([target("http://a.example/")], network)

        assert network.seen == ["http://a.example/", "http://b.example/"] * 2
        assert len(outcome.redirects) == 1


class TestTrouble:
    async def test_a_defect_in_a_transport_costs_one_target(self) -> None:
        async def script(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/3":
                raise KeyError("oops")
            return httpx.Response(200)

        outcomes = await fetched(targets(10), Network(script))
        (failed,) = [outcome for outcome in outcomes if outcome.status is Status.FAILED]

        assert (failed.target, failed.error_kind) == (targets(10)[3], ErrorKind.INTERNAL)
        assert failed.error_detail == "KeyError: 'oops'"

    @pytest.mark.parametrize("asynchronous", [False, True])
    async def test_a_source_that_breaks_is_heard_after_what_came_before(self, asynchronous: bool) -> None:
        def source() -> Iterator[Target]:
            yield from targets(10)
            raise OSError("disk gone")

        async def asynchronously() -> AsyncIterator[Target]:
            for one in source():
                yield one

        outcomes = fetch_all(asynchronously() if asynchronous else source(), config(), transport=Network())
        async with asyncio.timeout(BOUND):
            before = [await anext(outcomes) for _ in range(10)]
            with pytest.raises(OSError, match="disk gone"):
                await anext(outcomes)

        assert {outcome.target for outcome in before} == set(targets(10))

    async def test_a_transport_that_cancels_its_caller_is_heard(self) -> None:
        async def script(request: httpx.Request) -> httpx.Response:
            raise asyncio.CancelledError

        with pytest.raises(RuntimeError, match="a worker was cancelled"):
            await fetched(targets(1), Network(script))

    async def test_leaving_early_cancels_what_is_in_flight_and_closes_the_source(self) -> None:
        closed = False

        async def source() -> AsyncIterator[Target]:
            nonlocal closed
            try:
                for one in targets(1000):
                    yield one
            finally:
                closed = True

        async def script(request: httpx.Request) -> httpx.Response:
            if request.url.path != "/0":
                await asyncio.sleep(60)
            return httpx.Response(200)

        network = Network(script)
        outcomes = fetch_all(source(), config(concurrency=5, look_ahead=2), transport=network)
        async with asyncio.timeout(BOUND), aclosing(outcomes):  # type: ignore[type-var]
            await anext(outcomes)
            await until(lambda: network.in_flight == 5)

        assert (network.in_flight, network.cancelled, closed) == (0, 5, True)
        assert len(network.seen) == 6
        assert not network.closed  # it is the caller's

    async def test_a_cancellation_comes_through_and_is_not_retried(self) -> None:
        async def script(request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(60)
            raise AssertionError

        network = Network(script)
        running = asyncio.create_task(fetched(targets(3), network))
        await until(lambda: network.in_flight == 3)
        running.cancel()

        with pytest.raises(asyncio.CancelledError):
            await running
        assert (network.cancelled, len(network.seen)) == (3, 3)


class TestOverLoopback:
    """The same over real connections, against the scripted origin."""

    async def test_peaks_stay_within_the_bounds(self) -> None:
        async with Origin(listeners=3) as origin:
            source = [target(origin.url(f"/slow/{number}?ms=10", number % 3)) for number in range(60)]
            outcomes = await fetched(source, concurrency=5, per_host=2, allowed_networks=LOOPBACK)

            assert {outcome.status for outcome in outcomes} == {Status.SUCCEEDED}
            assert origin.peak <= 5
            assert max(origin.peaks.values()) <= 2

    async def test_the_host_delay_is_kept(self, origin: Origin) -> None:
        await fetched(
            [target(origin.url(f"/ok/{number}")) for number in range(4)], host_delay=0.05, allowed_networks=LOOPBACK
        )
        started = [entry.started for entry in origin.log]

        assert len(started) == 4
        # The origin sees a request a little after its turn, and the first one later than the others by its connection.
        assert started[-1] - started[1] >= 0.08

    @pytest.mark.parametrize(
        ("path", "status", "kind", "attempts"),
        [
            ("/ok/1", Status.SUCCEEDED, None, 1),
            ("/flaky/1?times=2", Status.SUCCEEDED, None, 3),
            ("/retry-after/1?seconds=0", Status.SUCCEEDED, None, 2),
            ("/redirect/3/1", Status.SUCCEEDED, None, 1),
            ("/redirect-loop/1", Status.FAILED, ErrorKind.TOO_MANY_REDIRECTS, 1),
            ("/redirect-to?url=http%3A%2F%2F10.0.0.1%2F", Status.FAILED, ErrorKind.BLOCKED_ADDRESS, 1),
            ("/redirect-to?url=http%3A%2F%2Fa%3Ab%40x%2F", Status.FAILED, ErrorKind.INVALID_URL, 1),
            ("/missing/1", Status.FAILED, ErrorKind.HTTP_STATUS, 1),
            ("/status/304", Status.FAILED, ErrorKind.PROTOCOL, 1),
            ("/reset/1", Status.FAILED, ErrorKind.PROTOCOL, 2),
            ("/truncated/1", Status.FAILED, ErrorKind.PROTOCOL, 2),
            ("/garbage/1", Status.FAILED, ErrorKind.PROTOCOL, 2),
            ("/hang/1", Status.FAILED, ErrorKind.TIMEOUT, 2),
            ("/stall/1", Status.FAILED, ErrorKind.TIMEOUT, 2),
            ("/big/9999999", Status.FAILED, ErrorKind.TOO_LARGE, 1),
            ("/gzip-bomb/1", Status.FAILED, ErrorKind.TOO_LARGE, 1),
            ("/bad-gzip/1", Status.FAILED, ErrorKind.DECODING, 1),
        ],
    )
    async def test_what_becomes_of_it(
        self, origin: Origin, path: str, status: Status, kind: ErrorKind | None, attempts: int
    ) -> None:
        tries = 3 if path.startswith("/flaky") else 2
        (outcome,) = await fetched(
            [target(origin.url(path))],
            max_attempts=tries,
            read_timeout=0.1,
            deadline=1,
            max_body=100_000,
            allowed_networks=LOOPBACK,
        )

        assert (outcome.status, outcome.error_kind, len(outcome.attempts)) == (status, kind, attempts)
        assert all(attempt.address == origin.netloc() for attempt in outcome.attempts if "10.0.0.1" not in path)

    async def test_without_permission_loopback_is_not_connected_to(self, origin: Origin) -> None:
        (outcome,) = await fetched([target(origin.url("/ok/1"))])

        assert outcome.error_kind is ErrorKind.BLOCKED_ADDRESS
        assert origin.accepted == 0

    async def test_an_early_end_closes_the_connections(self, origin: Origin) -> None:
        source = [target(origin.url("/ok/1")), *(target(origin.url(f"/hang/{number}")) for number in range(5))]
        outcomes = fetch_all(source, config(allowed_networks=LOOPBACK))
        async with asyncio.timeout(BOUND), aclosing(outcomes):  # type: ignore[type-var]
            await anext(outcomes)
            await until(lambda: origin.in_flight == 5)

        await until(lambda: origin.in_flight == 0)
