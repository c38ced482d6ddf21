"""The other use case: a list is planned here and fetched by the cluster.

It is planned as ``fetcher.service`` does it, and the cluster is told as soon as there is something to fetch. From then
on the run is the cluster's; this process only reads the source to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial

from django.db import DatabaseError, InterfaceError

from fetcher.causes import Cause
from fetcher.conf import fetcher_settings
from fetcher.database_errors import describe
from fetcher.disk import DiskNearlyFull, DiskWatch
from fetcher.dispatch import Dispatcher, DispatchError
from fetcher.engine.config import ConfigError, FetchConfig
from fetcher.engine.control import Control
from fetcher.execution import LOOK, background, cancel_once_stopped
from fetcher.lead import Lead
from fetcher.listener import Listener
from fetcher.models import RunState
from fetcher.options import RunOptions
from fetcher.sources import Entry, Inputs, SourceError
from fetcher.store import cluster, leases, runs
from fetcher.store.cluster import TARGETS_A_WORKER
from fetcher.store.retry import create_retry
from fetcher.writer import Writer

_AGAIN = 5.0
"""Seconds after which more is woken although all that were to be have been: they may have found nothing yet."""


async def queue_list(
    entries: Iterable[Entry],
    config: FetchConfig,
    options: RunOptions | None = None,
    *,
    dispatcher: Dispatcher,
    label: str = "",
    source: str = "",
    listener: Listener | None = None,
    control: Control | None = None,
) -> RunState:
    """Plan a list as one run of the cluster, and return the state that it is in once all of it is accepted.

    The run's number is ``listener.progress.run``. When the ``control`` stops it, or it is cancelled, what was accepted
    is fetched by the cluster and the run is then interrupted, for its source was not read to the end.

    Raises DispatchError before anything is saved where the queue cannot be reached; ConfigError for what the cluster
    cannot do; SourceError, DatabaseError, DiskNearlyFull as ``fetch_list`` does.
    """
    options = options or RunOptions()
    async with _queueing(dispatcher, config, listener, control) as lead:
        inputs = entries.dump() if isinstance(entries, Inputs) else None
        create = partial(runs.create_run, config, options, label=label, source=source, inputs=inputs)
        return await lead.run(lambda: lead.begin(create, config, options, entries))


async def queue_failures(
    parent: int,
    causes: Sequence[Cause],
    config: FetchConfig,
    options: RunOptions,
    *,
    dispatcher: Dispatcher,
    label: str = "",
    listener: Listener | None = None,
    control: Control | None = None,
) -> RunState:
    """Have the cluster fetch again what failed in another run by these causes (none: by any), as one new run."""
    async with _queueing(dispatcher, config, listener, control) as lead:
        create = partial(create_retry, parent, causes, config, options, label=label)
        return await lead.run(lambda: lead.begin(create, config, options))


async def queue_prepared(
    create: Callable[[], int],
    config: FetchConfig,
    options: RunOptions,
    *,
    dispatcher: Dispatcher,
    listener: Listener | None = None,
    control: Control | None = None,
) -> RunState:
    """Give the cluster a run whose shards are there from the start (``fetch_prepared``)."""
    async with _queueing(dispatcher, config, listener, control) as lead:
        return await lead.run(lambda: lead.begin(create, config, options, prepared=True))


async def queue_again(
    run: int, *, dispatcher: Dispatcher, listener: Listener | None = None, control: Control | None = None
) -> RunState:
    """Give the cluster a run that was interrupted; its source is read on here. Raises as ``resume_run`` does.

    One whose source was not read to its end is read on also where the cluster works on it.
    """
    async with _queueing(dispatcher, None, listener, control) as lead:
        return await lead.run(lambda: lead.take_up(run))


@contextlib.asynccontextmanager
async def _queueing(
    dispatcher: Dispatcher, config: FetchConfig | None, listener: Listener | None, control: Control | None
) -> AsyncIterator[ClusterLead]:
    if config is not None:
        check_for_cluster(config, dispatcher)
    disk = DiskWatch.of_run(keeps_bodies=False)
    disk.check()
    listener = listener or Listener()
    async with Writer(waiting=listener.message) as writer:
        await writer.once(dispatcher.check)
        yield ClusterLead(writer, disk, listener, None, control or Control(), 1, dispatcher)


def check_for_cluster(config: FetchConfig, dispatcher: Dispatcher) -> None:
    """Raise ConfigError for what the cluster cannot do."""
    if config.deadline > dispatcher.longest_attempt:
        raise ConfigError(
            "deadline",
            f"must be at most {dispatcher.longest_attempt:g} on the cluster, whose tasks end after a while, "
            f"not {config.deadline:g}",
        )


class ClusterLead(Lead):
    """A lead that plans and leaves the fetching to the cluster."""

    def __init__(
        self,
        writer: Writer,
        disk: DiskWatch,
        listener: Listener,
        transport: None,
        control: Control,
        workers: int,
        dispatcher: Dispatcher,
    ) -> None:
        super().__init__(writer, disk, listener, transport, control, workers)
        self._dispatcher = dispatcher
        self._woken, self._woken_at = 0, 0.0
        self._news = asyncio.Event()
        self._waking = asyncio.Lock()

    async def _work(self) -> None:
        async with background(self._renew()), background(self._obey()), background(self._keep_waking()):
            planning = asyncio.ensure_future(self._plan_all(self._news.set))
            self._control.listen(lambda: cancel_once_stopped(planning, self._control))
            try:
                await planning
            except asyncio.CancelledError:
                planning.cancel()
                if not self._control.stopped:
                    raise
            except (SourceError, DiskNearlyFull):
                await self._wake()  # what was accepted is fetched
                raise
            await self._wake()

    async def _obey(self) -> None:
        """Stop reading when somebody cancels the run."""
        while not await self._writer(runs.is_cancelled, self._run):
            await asyncio.sleep(LOOK)
        self._control.stop()

    async def _keep_waking(self) -> None:
        while True:
            # Also without news: what came just after the last worker had gone must not wait for what comes next.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _AGAIN)
            self._news.clear()
            await self._wake()

    async def _wake(self) -> None:
        """Wake more workers as more is accepted, and another one where all that were woken have gone."""
        async with self._waking:
            await self._wake_missing()

    async def _wake_missing(self) -> None:
        accepted = self._progress.accepted
        wanted = min(fetcher_settings().run_workers, 1 + accepted // TARGETS_A_WORKER) if accepted else 0
        missing = wanted - self._woken
        now = asyncio.get_running_loop().time()
        if missing <= 0 and (now - self._woken_at < _AGAIN or not await self._writer(cluster.is_neglected, self._run)):
            return
        await self._writer(cluster.hand_over, self._run)
        try:
            await self._writer.once(self._dispatcher.wake, self._run, max(1, missing))
        except (DispatchError, DatabaseError, InterfaceError) as exc:
            reason = str(exc) if isinstance(exc, DispatchError) else describe(exc)
            self._listener.message(
                f"{reason}; the run stays with the cluster, which looks for such runs every minute, and can be resumed"
            )
        # At least one: lanes can be there before their targets are counted, and nothing was wanted then.
        self._woken, self._woken_at = max(self._woken, wanted, 1), now

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(leases.RENEWAL)
            await self._writer(partial(leases.renew, self._worker, self._run, sends=False))

    def _check(self, config: FetchConfig) -> None:
        # What a header's value names is for the workers to look up: they have an environment of their own.
        check_for_cluster(config, self._dispatcher)

    def _claim(self, run: int, worker: int) -> None:
        if not cluster.read_on(run, worker):
            super()._claim(run, worker)

    def _register(self, run: int) -> int:
        return leases.register_worker(run, sends=False)

    def _start(self, run: int, worker: int) -> None:
        cluster.begin_planning(run, worker)

    def _end(self) -> RunState:
        if not self._run:
            return RunState.PENDING
        leases.let_go(self._worker)
        return cluster.end_planning(self._run, self._worker)
