"""A cluster without processes: who is woken is noted, and works when the test says so."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import httpx

from fetcher.dispatch import DispatchError
from fetcher.slices import Slice, work_slice


class Noting:
    """A dispatcher that notes which runs it is told of; ``refusal`` is what it raises instead, and ``late`` when."""

    longest_attempt = 500.0
    woken: ClassVar[list[int]] = []
    refusal: ClassVar[str] = ""
    late: ClassVar[bool] = False

    @classmethod
    def reset(cls) -> None:
        cls.woken.clear()
        cls.refusal, cls.late = "", False

    def check(self) -> None:
        if self.refusal and not self.late:
            raise DispatchError(self.refusal)

    def is_idle(self) -> bool:
        return True

    def is_ending(self) -> bool:
        return False

    def wake(self, run: int, count: int = 1) -> None:
        if self.refusal:
            raise DispatchError(self.refusal)
        self.woken.extend([run] * count)


PATH = f"{__name__}.Noting"
"""For ``FETCHER_DISPATCHER``."""


def answers(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=b"content")


async def work(run: int, *, transport: httpx.AsyncBaseTransport | None = None) -> Slice | None:
    """Do what a worker of the cluster does that is woken for a run."""
    return await work_slice(run, Noting(), seconds=5, transport=transport or httpx.MockTransport(answers))


def drain(run: int) -> None:
    """Work on a run until it is over."""

    async def main() -> None:
        async with asyncio.timeout(30):
            while (done := await work(run)) is not None and not done.over:
                pass

    asyncio.run(main())
