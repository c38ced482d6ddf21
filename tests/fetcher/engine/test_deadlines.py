"""Many time limits with one timer."""

from __future__ import annotations

import asyncio

import pytest

from fetcher.engine.deadlines import Deadlines

LONG = 60.0


async def sleeper(deadlines: Deadlines, limit: float, seconds: float = LONG) -> str:
    try:
        with deadlines.limit(limit) as given:
            await asyncio.sleep(seconds)
    except TimeoutError:
        assert given.expired
        return "expired"
    return "done"


async def test_what_takes_too_long_ends_with_a_timeout() -> None:
    assert await sleeper(Deadlines(), 0.01) == "expired"


async def test_what_ends_in_time_is_left_alone_afterwards() -> None:
    deadlines = Deadlines()

    assert await sleeper(deadlines, 0.02, 0) == "done"
    await asyncio.sleep(0.04)  # here the limit would be over


async def test_each_limit_has_its_own_end_whatever_was_begun_before() -> None:
    deadlines = Deadlines()
    tasks = [asyncio.create_task(sleeper(deadlines, limit)) for limit in (LONG, 0.03, 0.01, LONG)]
    done, pending = await asyncio.wait(tasks, timeout=0.2)

    assert [task.result() for task in done] == ["expired", "expired"]
    assert pending == {tasks[0], tasks[3]}
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


async def test_a_task_that_is_cancelled_is_cancelled() -> None:
    task = asyncio.create_task(sleeper(Deadlines(), LONG))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_that_is_cancelled_at_the_moment_of_its_end_is_cancelled() -> None:
    deadlines = Deadlines()
    task = asyncio.create_task(sleeper(deadlines, LONG))
    await asyncio.sleep(0)
    [limit] = deadlines._limits
    limit.expire()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_another_error_goes_through() -> None:
    with pytest.raises(LookupError), Deadlines().limit(LONG):
        raise LookupError


async def test_a_task_goes_on_after_its_limit() -> None:
    deadlines = Deadlines()

    assert [await sleeper(deadlines, limit) for limit in (0.01, 0.02)] == ["expired", "expired"]
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def test_limits_that_are_over_early_leave_one_timer_behind() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines()
    for _ in range(100):
        await sleeper(deadlines, LONG, 0)

    assert len(loop._scheduled) == 1  # type: ignore[attr-defined]
    deadlines._timer.cancel()  # type: ignore[union-attr]
