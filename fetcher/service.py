"""The use case: a list of URLs is planned, fetched and saved. Command, task and view enter here.

::

    entries -> reader thread -> Planner (writer thread) -> shards in the database
                                                              |
    results in the database <- Recorder (writer thread) <- fetch_all <- LaneFeed

Planning, fetching and saving go on at the same time; the database is what they share. Other processes may fetch and
save beside this one (``fetcher.team``).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial

import httpx

from fetcher.causes import Cause
from fetcher.disk import DiskWatch
from fetcher.engine.config import FetchConfig, check_environment
from fetcher.engine.control import Control
from fetcher.lead import Lead
from fetcher.listener import Listener
from fetcher.models import RunState
from fetcher.options import RunOptions
from fetcher.sources import Entry, Inputs
from fetcher.store import runs
from fetcher.store.retry import create_retry
from fetcher.writer import Writer


async def fetch_list(
    entries: Iterable[Entry],
    config: FetchConfig,
    options: RunOptions | None = None,
    *,
    label: str = "",
    source: str = "",
    listener: Listener | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    control: Control | None = None,
    workers: int = 1,
) -> RunState:
    """Plan, fetch and save a list as one run, and return the state that it ended in.

    ``entries`` is read in a thread of its own, so it may block; where it is ``Inputs``, reading can be resumed. The
    options' ``method`` and ``data`` are for those of its targets that do not say otherwise. The run's number is
    ``listener.progress.run``. ``workers`` is the number of processes, this one included.

    When the ``control`` stops it, what is in flight is finished; when cancelled, it is not. Either way what was fetched
    is saved and the run is left interrupted.

    Raises ConfigError before anything is saved, SourceError once what was accepted is fetched, DatabaseError where
    nothing more can be saved, DiskNearlyFull where too little room is left.
    """
    check_environment(config.headers)
    options = options or RunOptions()
    async with _leading(options.keep_body, listener, transport, control, workers) as lead:
        inputs = entries.dump() if isinstance(entries, Inputs) else None
        create = partial(runs.create_run, config, options, label=label, source=source, inputs=inputs)
        return await lead.run(lambda: lead.begin(create, config, options, entries))


async def fetch_failures(
    parent: int,
    causes: Sequence[Cause],
    config: FetchConfig,
    options: RunOptions,
    *,
    label: str = "",
    listener: Listener | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    control: Control | None = None,
    workers: int = 1,
) -> RunState:
    """Fetch again what failed or was skipped in another run by these causes (none: by any), as one new run.

    Everything else is as in ``fetch_list``; the targets are what they were, so ``method`` and ``data`` go unused.
    """
    check_environment(config.headers)
    async with _leading(options.keep_body, listener, transport, control, workers) as lead:
        create = partial(create_retry, parent, causes, config, options, label=label)
        return await lead.run(lambda: lead.begin(create, config, options))


async def fetch_prepared(
    create: Callable[[], int],
    config: FetchConfig,
    options: RunOptions,
    *,
    listener: Listener | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    control: Control | None = None,
    workers: int = 1,
) -> RunState:
    """Fetch and save a run whose shards are there from the start, and return the state that it ended in.

    ``create`` makes the run (``fetcher.store.prepared``), in the transaction in which it begins, and returns its id;
    what it raises is raised here, and nothing is left of the run. Everything else is as in ``fetch_list``.
    """
    check_environment(config.headers)
    async with _leading(options.keep_body, listener, transport, control, workers) as lead:
        return await lead.run(lambda: lead.begin(create, config, options, prepared=True))


async def resume_run(
    run: int,
    *,
    listener: Listener | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    control: Control | None = None,
    workers: int = 1,
) -> RunState:
    """Finish a run that was interrupted, with the options that it was begun with, and return the state it ended in.

    Reading goes on where it ended. Raises NotResumable, UnsealError and ConfigError before anything is done,
    SourceError once what was accepted is fetched, where the rest cannot be read, and otherwise as ``fetch_list`` does.
    """
    async with _leading(True, listener, transport, control, workers) as lead:
        return await lead.run(lambda: lead.take_up(run))


@contextlib.asynccontextmanager
async def _leading(
    keeps_bodies: bool,
    listener: Listener | None,
    transport: httpx.AsyncBaseTransport | None,
    control: Control | None,
    workers: int,
) -> AsyncIterator[Lead]:
    disk = DiskWatch.of_run(keeps_bodies=keeps_bodies)
    disk.check()
    listener = listener or Listener()
    async with Writer(waiting=listener.message) as writer:
        yield Lead(writer, disk, listener, transport, control or Control(), workers)
