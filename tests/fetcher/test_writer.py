"""The writer: one thread, one connection, and a database that is away for a while."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from fetcher.models import Run
from fetcher.writer import Writer
from tests.support.outages import locked

pytestmark = pytest.mark.django_db(transaction=True)


class Failing:
    """A call that fails so many times before it succeeds."""

    def __init__(self, times: float, error: Callable[[], Exception] = locked) -> None:
        self.calls = 0
        self._times = times
        self._error = error

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self._times:
            raise self._error()
        return self.calls


def write(*calls: Callable[[], Any], **options: Any) -> tuple[list[Any], list[str]]:
    """Have a writer make the calls and return their results or errors, and the messages."""
    messages: list[str] = []

    async def main() -> list[Any]:
        async with Writer(waiting=messages.append, **options) as writer:
            return [(await asyncio.gather(writer(call), return_exceptions=True))[0] for call in calls]

    return asyncio.run(main()), messages


class TestAnErrorThatPasses:
    def test_is_ridden_through_and_told(self):
        results, messages = write(Failing(2), patience=60)
        assert results == [3]
        began, over = messages
        assert began.startswith("the database cannot be used: database is locked; trying again for up to 60.0 s")
        assert over.startswith("the database can be used again after 0.")

    def test_counts_from_when_the_call_began_that_waited_for_it_in_vain(self):
        failing = Failing(1)

        def waiting() -> int:
            if not failing.calls:
                time.sleep(0.3)  # as SQLite does before it says that it is locked
            return failing()

        _, messages = write(waiting, patience=60)
        assert float(messages[-1].split()[-2]) >= 0.5

    def test_comes_out_when_patience_is_over(self):
        failing = Failing(float("inf"))
        [error], messages = write(failing, patience=0.5)
        assert isinstance(error, OperationalError)
        assert failing.calls == 3  # at 0, 0.2 and 0.5 s
        assert len(messages) == 1

    def test_uses_up_one_patience_for_all_calls_of_an_outage(self):
        later = Failing(float("inf"))
        errors, _ = write(Failing(float("inf")), later, patience=0.3)
        assert [type(error) for error in errors] == [OperationalError] * 2
        assert later.calls == 1

    def test_is_waited_for_anew_after_a_success(self):
        results, messages = write(Failing(1), Failing(1), patience=0.3)
        assert results == [2, 2]
        assert len(messages) == 4

    def test_comes_out_at_once_without_patience(self, settings):
        settings.FETCHER_DATABASE_PATIENCE = "0"
        failing = Failing(1)
        [error], messages = write(failing)
        assert (type(error), failing.calls, messages) == (OperationalError, 1, [])


class TestOnce:
    def test_never_repeats(self):
        failing = Failing(1)

        async def main() -> None:
            async with Writer(60) as writer:
                with pytest.raises(OperationalError):
                    await writer.once(failing)

        asyncio.run(main())
        assert failing.calls == 1


@pytest.mark.parametrize("error", [ValueError("a mistake"), OperationalError("no cause"), OSError(28, "no space")])
def test_another_error_comes_out_at_once(error):
    failing = Failing(1, lambda: error)
    [found], messages = write(failing, patience=60)
    assert (found, failing.calls, messages) == (error, 1, [])


class TestHurry:
    def test_ends_a_wait_at_once(self):
        failing, waiting = Failing(float("inf")), threading.Event()

        async def main() -> None:
            async with Writer(600, waiting=lambda text: waiting.set()) as writer:
                call = writer(failing)
                await asyncio.to_thread(waiting.wait, 10)
                writer.hurry()
                with pytest.raises(OperationalError):
                    await asyncio.wait_for(call, 20)

        asyncio.run(main())

    def test_is_what_leaving_the_writer_does(self):
        failing, waiting = Failing(float("inf")), threading.Event()

        async def main() -> asyncio.Future[int]:
            async with Writer(600, waiting=lambda text: waiting.set()) as writer:
                call = writer(failing)
                await asyncio.to_thread(waiting.wait, 10)
            return call

        assert isinstance(asyncio.run(main()).exception(), OperationalError)

    def test_lets_a_call_still_have_its_try(self):
        async def main() -> int:
            async with Writer(600) as writer:
                writer.hurry()
                return await writer(Run.objects.count)

        assert asyncio.run(main()) == 0


class TestTheConnection:
    def test_is_a_new_one_for_each_further_try(self):
        seen = []

        def call() -> None:
            connection.ensure_connection()
            seen.append(connection.connection)
            if len(seen) < 3:
                raise locked()

        write(call, patience=60)
        assert len(set(map(id, seen))) == 3

    def test_is_usable_however_deep_in_a_transaction_the_old_one_was_lost(self):
        tries = []

        def call() -> int:
            tries.append(connection.in_atomic_block)
            with transaction.atomic(), transaction.atomic():
                run = Run.objects.create(label=str(len(tries)))
                if len(tries) == 1:
                    connection.connection.close()
                    raise locked()
                return run.pk

        [pk], _ = write(call, patience=60)
        assert tries == [False, False]
        assert Run.objects.get().pk == pk

    def test_is_reset_where_a_transaction_was_never_left(self):
        tries = []

        def call() -> None:
            tries.append(connection.in_atomic_block)
            if len(tries) == 1:
                transaction.atomic().__enter__()
                raise locked()
            Run.objects.create()

        write(call, patience=60)
        assert tries == [False, False]
        assert Run.objects.count() == 1

    def test_is_closed_with_the_writer_whoever_still_wants_to_write(self):
        opened = []

        def note() -> None:
            connection.ensure_connection()
            opened.append(connection.connection)

        async def main() -> None:
            async def write_again() -> None:
                with contextlib.suppress(RuntimeError):
                    while True:
                        await writer(note)

            async with Writer(0) as writer:
                await writer(note)
                late = asyncio.ensure_future(write_again())
                await asyncio.sleep(0)
            await late

        asyncio.run(main())
        assert len(set(map(id, opened))) == 1
        if connection.vendor == "postgresql":
            assert opened[0].closed
