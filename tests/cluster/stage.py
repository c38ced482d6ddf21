"""Where a trial takes place: an origin, a database, a queue, and clusters that share the two."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis

from fetcher.demo.origin import Entry, Origin, ThreadedOrigin
from tests.cluster.cases import POSTGRES_DOWN, REDIS, SQLITE, Case
from tests.cluster.changes import HURRY, NAME
from tests.cluster.servers import QCluster, RedisServer, running_redis
from tests.crash.databases import Database
from tests.crash.script import Hanging
from tests.crash.site import ENVIRONMENT, LABEL, SOME_FAILED, Hung, Scratch, Site, migrated, wait_until
from tests.support.postgres_cluster import Cluster as PostgresServer
from tests.support.postgres_cluster import running_cluster
from tests.support.processes import ROOT

HOSTS = 50
TIMES = 10
"""So many times shorter than in production is every wait of the cluster, but for the cases that are ``real``."""
LIMIT = 150.0
"""Seconds in which a run must end, with the shorter waits."""
HAND_OVER = ("manage.py", "fetch_urls", "--queue", "--progress", "none")
_PRIVATE = "private"
_LOG = 100_000


class Stage:
    """One round's own database and queue, and the clusters that were started on them."""

    def __init__(self, scratch: Scratch, case: Case, grounds: Grounds) -> None:
        self.scratch = scratch
        self.case = case
        self.clusters: list[QCluster] = []
        self.redis = grounds.redis if case.setup == REDIS else None
        self.postgres = grounds.postgres if case.fault == POSTGRES_DOWN else None
        self._planners: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._environment = {
            **ENVIRONMENT,
            "DJANGO_SETTINGS_MODULE": "tests.cluster.settings",
            "DATABASE_URL": scratch.database.url,
            "REDIS_URL": "" if self.redis is None else self.redis.url,
            "MEDIA_ROOT": str(scratch.folder / "media"),
            HURRY: "" if case.real else str(TIMES),
        }

    @property
    def times(self) -> float:
        """How many times shorter the cluster's waits are."""
        return 1 if self.case.real else TIMES

    @property
    def limit(self) -> float:
        """Seconds in which a run must end."""
        return LIMIT * (4 if self.case.real else 1)

    @property
    def log(self) -> list[Entry]:
        """The requests of this round, oldest first."""
        return self.scratch.log

    def start(self, *names: str, workers: int = 1) -> list[QCluster]:
        """Start clusters side by side, each with so many workers, and wait for them."""
        variables = {**self._environment, "CLUSTER_WORKERS": str(workers)}
        begun = [QCluster(name, self.scratch.folder, variables) for name in names]
        self.clusters += begun
        for cluster in begun:
            cluster.await_ready()
        return begun

    def hand_over(self, listing: Sequence[str], *options: str, label: str = LABEL) -> subprocess.Popen[bytes]:
        """Begin to give the cluster a run."""
        said = self.scratch.folder / f"planner-{len(self._planners)}.txt"
        with said.open("wb") as sink:
            process = self.manage(*HAND_OVER, *listing, "--label", label, *options, sink=sink)
        self._planners.append((process, said))
        return process

    def manage(self, *arguments: str, sink: int | object = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start a program of the project on this stage's database and queue."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, **self._environment, NAME: "planner"},
            stdin=subprocess.DEVNULL,
            stdout=sink,  # type: ignore[arg-type]
            stderr=subprocess.STDOUT,
        )

    def await_planned(self) -> None:
        """Wait until every source is read. Raises Hung."""
        for process, said in self._planners:
            try:
                code = process.wait(self.limit)
            except subprocess.TimeoutExpired:
                raise Hung(f"a run is still being handed over after {self.limit:g} s") from None
            if code not in (0, SOME_FAILED):  # the lists have lines that are no URLs
                raise Hung(f"a run was not handed over ({code}): {said.read_text(errors='replace')[-1500:]}")

    def state(self, label: str = LABEL) -> str:
        """Return a run's state; empty where there is no such run, or the database is away."""
        try:
            with self.scratch.database.reading() as connection:
                rows = connection.execute(f"SELECT state FROM fetcher_run WHERE label = '{label}'").fetchall()
        except (psycopg.Error, sqlite3.Error):
            return ""
        return str(rows[0][0]) if rows else ""

    def await_requests(self, count: int) -> None:
        """Wait until the origin was asked so often. Raises Hung."""
        if not wait_until(lambda: len(self.log) >= count, self.limit, every=0.02):
            raise Hung(f"there were {len(self.log)} requests after {self.limit:g} s, and {count} were waited for")

    def await_end(self, label: str = LABEL) -> None:
        """Wait until a run is over. Raises Hung."""
        over = ("completed", "cancelled", "failed")
        if not wait_until(lambda: self.state(label) in over, self.limit, every=0.1):
            state = self.state(label) or "nowhere"
            raise Hung(f"run {label!r} is {state} {self.limit:g} s later, {self.messages()} messages wait")
        self.await_planned()

    def messages(self) -> int:
        """Count the messages in the queue, those included that somebody took and did not end."""
        if self.redis is not None:
            with contextlib.closing(redis.from_url(self.redis.url)) as client:
                return int(client.llen("django_q:trawl:q"))
        with self.scratch.database.reading() as connection:
            ((count,),) = connection.execute("SELECT count(*) FROM django_q_ormq").fetchall()
            return int(count)

    def end(self) -> None:
        """End everything that was started here."""
        for process, _ in self._planners:
            process.kill()
            process.wait()
        for cluster in self.clusters:
            cluster.kill()


@dataclass(slots=True)
class Grounds:
    """What all rounds share."""

    origin: Origin
    site: Site
    redis: RedisServer | None = None
    postgres: PostgresServer | None = None
    netlocs: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def stage(self, case: Case) -> Iterator[Stage]:
        """Give a round a stage of its own. Its folder and database are kept where ``scratch.keep`` was set."""
        if self.redis is not None:
            self.redis.forget()
        with self.site.scratch(_kind(case)) as scratch:
            stage = Stage(scratch, case, self)
            try:
                yield stage
            finally:
                stage.end()


def _kind(case: Case) -> str:
    if case.setup == SQLITE:
        return SQLITE
    return _PRIVATE if case.fault == POSTGRES_DOWN else "postgres"


@contextlib.contextmanager
def grounds(planned: Sequence[Case], folder: Path, server: str) -> Iterator[Grounds]:
    """Start what these cases need. Raises RedisMissing, ClusterMissing."""
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(running_cluster()) if any(case.fault == POSTGRES_DOWN for case in planned) else None
        queue = stack.enter_context(running_redis(folder)) if any(case.setup == REDIS for case in planned) else None
        empty: dict[str, Database] = {}
        for kind in sorted({_kind(case) for case in planned}):
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"empty-{kind}-", dir=folder)))
            assert kind != _PRIVATE or own is not None
            empty[kind] = migrated(kind, place, own.url if kind == _PRIVATE and own is not None else server)
            stack.callback(empty[kind].drop)
        hanging = Hanging()
        origin = stack.enter_context(ThreadedOrigin(listeners=HOSTS, routes={"hang": hanging}, log_size=_LOG))
        site = Site(origin, hanging, empty, folder)
        stack.callback(site.close)
        yield Grounds(origin, site, queue, own, site.netlocs)
