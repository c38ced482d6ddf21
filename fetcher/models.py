"""The tables. Only ``fetcher.store`` writes them; querysets here serve the readers.

A URL costs one Target the first time it is seen, one Body when its content is new, and one Result in every run.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import ClassVar

from django.db import models
from django.utils import timezone

from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Status
from fetcher.engine.urls import fingerprint
from fetcher.fields import EpochField
from fetcher.machine import is_gone, this_process

PLACES = 1024
"""Result ids in each shard's range: ``result.id = shard.id * PLACES + place``."""
SHARD_SIZE = 500
"""Targets in a shard, at most."""
LANES = 256
"""Hosts are spread over so many lanes."""


def lane_number(host: str) -> int:
    """Return the bucket of a host. Stable between processes and versions, unlike ``hash``."""
    return zlib.crc32(host.encode()) % LANES


class RunState(models.TextChoices):
    """How far a run is. A completed run may hold failed results."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    FAILED = "failed"


class ResultStatus(models.TextChoices):
    """The engine's verdicts, as choices."""

    SUCCEEDED = Status.SUCCEEDED.value
    NOT_MODIFIED = Status.NOT_MODIFIED.value
    FAILED = Status.FAILED.value
    SKIPPED = Status.SKIPPED.value


GOOD = (ResultStatus.SUCCEEDED, ResultStatus.NOT_MODIFIED)
ERROR_KINDS = tuple(kind.value for kind in ErrorKind)


class Target(models.Model):
    """One request to make: immutable, stored once however often it is fetched."""

    fingerprint = models.BinaryField(max_length=16, unique=True)
    method = models.CharField(max_length=32, default="GET")
    url = models.TextField()
    host = models.CharField(max_length=270)
    headers = models.JSONField(null=True)
    body = models.BinaryField(null=True)

    def __str__(self) -> str:
        return f"{self.method} {self.url}"


class RunQuerySet(models.QuerySet["Run"]):
    """Runs with the state that readers are told: one whose workers are gone is interrupted, whatever its row says."""

    def with_shown_state(self) -> RunQuerySet:
        """Add ``shown_state``. Nothing is written: a worker that only slept may come back."""
        dead = models.Q(state=RunState.RUNNING) & ~_held(timezone.now())
        return self.annotate(
            shown_state=models.Case(
                models.When(dead, then=models.Value(RunState.INTERRUPTED.value)),
                default=models.F("state"),
                output_field=models.CharField(),
            )
        )

    def in_state(self, state: str) -> RunQuerySet:
        """Return the runs whose shown state is this one."""
        if state == RunState.RUNNING:
            return self.alive(timezone.now())
        if state == RunState.INTERRUPTED:
            dead = models.Q(state=RunState.RUNNING) & ~_held(timezone.now())
            return self.filter(models.Q(state=state) | dead)
        return self.filter(state=state)

    def alive(self, moment: datetime) -> RunQuerySet:
        """Return the running runs with a worker whose lease goes beyond a moment."""
        return self.filter(_held(moment), state=RunState.RUNNING)


def _held(moment: datetime) -> models.Q:
    """Whether a worker works for a run: it holds a lane, or it was started for the run and waits for one."""
    alive = Worker.objects.filter(expires_at__gt=moment).exclude(id__in=Worker.objects.ended())
    holding = Lane.objects.filter(run=models.OuterRef("pk"), worker__in=alive)
    return models.Q(models.Exists(holding)) | models.Q(models.Exists(alive.filter(run=models.OuterRef("pk"))))


class Run(models.Model):
    """One execution over a list of targets. Its counters are the sums of its lanes'.

    ``inputs`` says what to read (``fetcher.sources.inputs``), ``read`` how many entries of it are accounted for, and
    ``source_offset`` where the last of them stood. ``planner`` is the worker that reads it.
    """

    state = models.CharField(max_length=16, choices=RunState.choices, default=RunState.PENDING)
    label = models.CharField(max_length=200, blank=True, default="")
    source = models.TextField(blank=True, default="")
    inputs = models.JSONField(null=True)
    source_offset = models.JSONField(null=True)
    read = models.BigIntegerField(default=0)
    planner = models.BigIntegerField(null=True)
    options = models.JSONField(default=dict)
    secrets = models.BinaryField(null=True)
    job_id = models.BigIntegerField(null=True)
    job_name = models.CharField(max_length=200, blank=True, default="")
    parent = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="retries")
    duplicates = models.BigIntegerField(default=0)
    rejected = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    planned_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["state", "id"], name="fetcher_run_state"),
            models.Index(fields=["label", "id"], name="fetcher_run_label"),
            models.Index(fields=["job_name", "id"], name="fetcher_run_job"),
        ]

    def __str__(self) -> str:
        return f"run {self.pk}"


class WorkerQuerySet(models.QuerySet["Worker"]):
    """Workers, and what this machine knows of their processes."""

    def of_run(self, run: int) -> WorkerQuerySet:
        """Return the workers that were started for a run or hold a lane of it."""
        holding = Lane.objects.filter(run=run, worker=models.OuterRef("pk"))
        return self.filter(models.Q(run=run) | models.Exists(holding))

    def ended(self) -> list[int]:
        """Return the ids of workers whose process has certainly ended."""
        here = this_process()
        rows = self.filter(hostname=here.hostname, boot_id=here.boot).values_list("id", "pid", "process_started")
        return [pk for pk, pid, started in rows if is_gone(replace(here, pid=pid, started=started))]


class Worker(models.Model):
    """One fetching process. Renewing ``expires_at`` here renews every lane that it holds.

    ``run`` is the run that it was started for. ``boot_id`` and ``process_started`` are ``fetcher.machine``'s.
    """

    token = models.UUIDField(unique=True)
    hostname = models.CharField(max_length=255)
    boot_id = models.CharField(max_length=64, blank=True, default="")
    pid = models.IntegerField()
    process_started = models.BigIntegerField(null=True)
    # No constraint: a run is removed without looking for workers that are long gone.
    run = models.ForeignKey("Run", null=True, on_delete=models.DO_NOTHING, related_name="workers", db_constraint=False)
    started_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)

    objects = WorkerQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.hostname}:{self.pid}"


class LaneQuerySet(models.QuerySet["Lane"]):
    """Lanes, by what is left of them."""

    def still_open(self) -> LaneQuerySet:
        """Return the lanes of which targets have no result."""
        recorded = models.F("succeeded") + models.F("not_modified") + models.F("failed") + models.F("skipped")
        return self.filter(planned__gt=recorded)


class Lane(models.Model):
    """A run's targets whose hosts fall into one bucket, held by one worker at a time.

    ``takeovers`` counts holders that were lost one after the other without a result in between; ``taken_with`` is how
    many results there were at the last. ``suspect`` is the result that the lane was at, where it is fetched one target
    at a time, and ``strikes`` how many processes ended at it.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="lanes")
    number = models.IntegerField()
    part = models.IntegerField(default=0)
    worker = models.ForeignKey(Worker, null=True, on_delete=models.SET_NULL, related_name="lanes")
    takeovers = models.IntegerField(default=0)
    taken_with = models.BigIntegerField(default=0)
    suspect = models.BigIntegerField(null=True)
    strikes = models.SmallIntegerField(default=0)
    planned = models.BigIntegerField(default=0)
    succeeded = models.BigIntegerField(default=0)
    not_modified = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)
    skipped = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField(default=0)

    objects = LaneQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "number", "part"], name="fetcher_lane_once"),
        ]

    def __str__(self) -> str:
        return f"lane {self.number}.{self.part} of run {self.run_id}"


class Shard(models.Model):
    """A bounded, ordered list of one lane's targets; ``fetcher.store.shards`` reads and writes the payload."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="shards", db_index=False)
    lane = models.ForeignKey(Lane, on_delete=models.CASCADE, related_name="shards")
    size = models.IntegerField()
    payload = models.BinaryField()
    done_at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["run", "lane", "id"], name="fetcher_shard_walk"),
            models.Index(fields=["run", "id"], name="fetcher_shard_order"),
        ]

    def __str__(self) -> str:
        return f"shard {self.pk}"


class Body(models.Model):
    """Stored content, addressed by its SHA-256 and kept once.

    ``size`` counts decoded bytes. ``encoding`` says how ``content`` is stored: empty as it is, ``zlib`` compressed.
    Large bodies lie in Django's file storage under ``file`` instead.
    """

    sha256 = models.BinaryField(max_length=32, unique=True)
    size = models.BigIntegerField()
    encoding = models.CharField(max_length=8, blank=True, default="")
    content = models.BinaryField(null=True)
    file = models.CharField(max_length=255, blank=True, default="")

    class Meta:
        verbose_name_plural = "bodies"

    def __str__(self) -> str:
        return bytes(self.sha256).hex()


class Representation(models.Model):
    """What a target was when it last changed: a body, its type, the validators that came with it.

    The id is that of the first result that has it. Later results that found the same, by a 304 or by fetching it again,
    point to it, so that an unchanged result costs few bytes. ``variant`` is an HMAC of the headers that it was asked
    for with: validators are never sent under other credentials.
    """

    id = models.BigAutoField(primary_key=True)
    body = models.ForeignKey(Body, null=True, on_delete=models.SET_NULL, related_name="representations")
    content_type = models.TextField(blank=True, default="")
    etag = models.TextField(blank=True, default="")
    last_modified = models.TextField(blank=True, default="")
    variant = models.BinaryField(max_length=16)

    def __str__(self) -> str:
        return f"representation {self.pk}"


class ResultQuerySet(models.QuerySet["Result"]):
    """Reads that stay fast in a run of millions."""

    def good(self) -> ResultQuerySet:
        """Results whose body is what the server has: succeeded or not modified."""
        return self.filter(status__in=GOOD)

    def of_url(self, url: str) -> ResultQuerySet:
        """Results of a plain GET of a normalised URL (``parse_url(...).href``), the newest run's first.

        Both conditions and order are the index on target and run.
        """
        return self.filter(target__fingerprint=fingerprint("GET", url)).order_by("-run_id")

    def unsuccessful(self) -> ResultQuerySet:
        """Failed or skipped results, by the partial index on them."""
        return self.filter(error_kind__isnull=False)

    def page(
        self, run: int, *, after: int = 0, limit: int, hosts: Sequence[str] = (), unsuccessful: bool = False
    ) -> list[int]:
        """Return the ids of up to ``limit`` of these results in a run after the id ``after``, in id order.

        A run's results lie in its shards' id ranges, so this walks the shards from ``after`` on and never scans other
        runs' rows. ``hosts`` (politeness keys) restrict the walk to the shards of their lanes. ``unsuccessful`` leaves
        out what has no error kind and reads by the index on those that have one instead.
        """
        results = self.filter(run=run).order_by("id")
        shards = Shard.objects.filter(run=run).order_by("id")
        if hosts:
            results = results.filter(target__host__in=hosts)
            shards = shards.filter(lane__number__in={lane_number(host) for host in hosts})
        if unsuccessful:
            return list(results.unsuccessful().filter(id__gt=after).values_list("id", flat=True)[:limit])
        found: list[int] = []
        start = after // PLACES
        width = 4
        while len(found) < limit:
            window = list(shards.filter(id__gte=start).values_list("id", flat=True)[:width])
            if not window:
                break
            for first, last in _stretches(window):
                within = results.filter(id__gt=max(after, first * PLACES - 1), id__lt=(last + 1) * PLACES)
                found += within.values_list("id", flat=True)[: limit - len(found)]
                if len(found) == limit:
                    break
            start = window[-1] + 1
            width = min(width * 2, 256)  # a rare filter finds little: look further each time
        return found


def _stretches(ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each stretch of neighbours in rising ids: ``2 3 4 7`` gives (2, 4) and (7, 7)."""
    first = last = ids[0]
    for number in ids[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


class Result(models.Model):
    """The stored outcome: one for each run and target.

    The id is known before the insert (shard and place), which makes recording idempotent by primary key. ``position``
    is the target's ordinal in the run's input. ``elapsed_us`` is microseconds, waits included. ``bytes`` counts the
    decoded bytes that this run received, so that a not_modified result has none. ``detail`` is encoded by
    ``fetcher.details``.
    """

    # An auto field although the id is always given: on SQLite only that is the row id itself, without a second index.
    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="results", db_index=False)
    target = models.ForeignKey(Target, on_delete=models.PROTECT, related_name="results", db_index=False)
    position = models.BigIntegerField()
    status = models.CharField(max_length=12, choices=ResultStatus.choices)
    error_kind = models.CharField(max_length=20, null=True)
    error_detail = models.TextField(blank=True, default="")
    http_status = models.SmallIntegerField(null=True)
    attempts = models.SmallIntegerField(default=0)
    started_at = EpochField()
    elapsed_us = models.BigIntegerField()
    bytes = models.BigIntegerField(default=0)
    label = models.TextField(null=True)
    final_url = models.TextField(null=True)
    # No index and no constraint: who points to a representation is found through its target, and both would cost more
    # than the rest of an unchanged result.
    representation = models.ForeignKey(
        Representation,
        null=True,
        on_delete=models.DO_NOTHING,
        related_name="results",
        db_index=False,
        db_constraint=False,
    )
    changed = models.BooleanField(null=True)
    extracted = models.JSONField(null=True)
    detail = models.BinaryField(null=True)

    objects = ResultQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["target", "run"], name="fetcher_result_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["run", "id"], condition=models.Q(error_kind__isnull=False), name="fetcher_result_bad"),
        ]

    def __str__(self) -> str:
        return f"result {self.pk}"


class RejectedLine(models.Model):
    """A line of input that is no target. ``value`` is redacted."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="rejected_lines")
    source = models.TextField()
    line = models.BigIntegerField()
    value = models.TextField()
    reason = models.TextField()

    def __str__(self) -> str:
        return f"{self.source}:{self.line}"


class HostPause(models.Model):
    """A Retry-After that every run keeps."""

    host = models.CharField(max_length=270, unique=True)
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.host} until {self.until:%Y-%m-%d %H:%M:%S}"
