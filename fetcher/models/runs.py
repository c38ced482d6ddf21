"""Runs and who works on them: lanes, shards, workers, and what waits in between."""

from __future__ import annotations

import zlib
from dataclasses import replace
from datetime import datetime, timedelta
from typing import ClassVar

from django.apps import apps
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from fetcher.machine import is_gone, this_process
from fetcher.models.clock import database_time

PLACES = 1024
"""Result ids in each shard's range: ``result.id = shard.id * PLACES + place``."""
SHARD_SIZE = 500
"""Targets in a shard, at most."""
WAKING = timedelta(minutes=2)
"""How long after the cluster was told of a run it counts as attended although no worker is there for it."""
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


OVER = (RunState.COMPLETED, RunState.CANCELLED, RunState.FAILED)
"""States in which a run is over."""


class RunQuerySet(models.QuerySet["Run"]):
    """Runs with the state that readers are told: one whose workers are gone is interrupted, whatever its row says."""

    def with_shown_state(self) -> RunQuerySet:
        """Add ``shown_state``. Nothing is written: a worker that only slept may come back."""
        dead = models.Q(state=RunState.RUNNING) & ~_attended(database_time())
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
            return self.filter(_attended(database_time()), state=RunState.RUNNING)
        if state == RunState.INTERRUPTED:
            dead = models.Q(state=RunState.RUNNING) & ~_attended(database_time())
            return self.filter(models.Q(state=state) | dead)
        return self.filter(state=state)

    def with_failures(self) -> RunQuerySet:
        """Return the runs in which a target failed or was skipped, by the index on such results."""
        unsuccessful = apps.get_model("fetcher", "Result").objects.unsuccessful()
        return self.filter(models.Exists(unsuccessful.filter(run=models.OuterRef("pk"))))

    def alive(self, moment: datetime | None = None) -> RunQuerySet:
        """Return the runs that go on: a worker's lease goes beyond a moment (None: now), or the cluster has them."""
        return self.filter(models.Q(_held(moment or database_time()), state=RunState.RUNNING) | _of_cluster())

    def of_cluster(self) -> RunQuerySet:
        """Return the runs that the cluster has and that are not over."""
        return self.filter(_of_cluster())


def _of_cluster() -> models.Q:
    return models.Q(woken_at__isnull=False, state__in=(RunState.PENDING, RunState.RUNNING))


def _attended(moment: datetime | Now) -> models.Q:
    """Whether somebody works for a run, or was just told to."""
    return _held(moment) | models.Q(woken_at__gt=moment - WAKING)


def _held(moment: datetime | Now) -> models.Q:
    """Whether a worker works for a run: it holds a lane, or it was started for the run and waits for one."""
    alive = Worker.objects.filter(expires_at__gt=moment).exclude(id__in=Worker.objects.ended())
    holding = Lane.objects.filter(run=models.OuterRef("pk"), worker__in=alive)
    return models.Q(models.Exists(holding)) | models.Q(models.Exists(alive.filter(run=models.OuterRef("pk"))))


class Run(models.Model):
    """One execution over a list of targets. Its counters are the sums of its lanes'.

    ``inputs`` says what to read (``fetcher.sources.inputs``), ``read`` how many entries of it are accounted for, and
    ``source_offset`` where the last of them stood. ``planner`` is the worker that reads it. ``woken_at`` is when the
    cluster was last told of it, None for a run that is not the cluster's. ``error`` says why it failed, and ``trouble``
    what is wrong with its slices (``fetcher.store.trouble``).
    """

    state = models.CharField(max_length=16, choices=RunState.choices, default=RunState.PENDING)
    label = models.CharField(max_length=200, blank=True, default="")
    source = models.TextField(blank=True, default="")
    inputs = models.JSONField(null=True)
    source_offset = models.JSONField(null=True)
    read = models.BigIntegerField(default=0)
    planner = models.BigIntegerField(null=True)
    woken_at = models.DateTimeField(null=True)
    error = models.TextField(blank=True, default="")
    trouble = models.JSONField(null=True)
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
            models.Index(fields=["woken_at"], name="fetcher_run_woken", condition=models.Q(woken_at__isnull=False)),
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

    ``run`` is the run that it was started for; without ``sends`` it only reads that run's source, and has no share of
    its lanes. ``boot_id`` and ``process_started`` are ``fetcher.machine``'s.
    """

    token = models.UUIDField(unique=True)
    hostname = models.CharField(max_length=255)
    boot_id = models.CharField(max_length=64, blank=True, default="")
    pid = models.IntegerField()
    process_started = models.BigIntegerField(null=True)
    # No constraint: a run is removed without looking for workers that are long gone.
    run = models.ForeignKey("Run", null=True, on_delete=models.DO_NOTHING, related_name="workers", db_constraint=False)
    sends = models.BooleanField(default=True)
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
    at a time, and ``strikes`` how many processes ended at it. ``asked_at`` is when its hosts were asked last, at the
    latest, by a holder that gave it up or was lost: the next one keeps the host delay from then on.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="lanes")
    number = models.IntegerField()
    part = models.IntegerField(default=0)
    worker = models.ForeignKey(Worker, null=True, on_delete=models.SET_NULL, related_name="lanes")
    takeovers = models.IntegerField(default=0)
    taken_with = models.BigIntegerField(default=0)
    suspect = models.BigIntegerField(null=True)
    strikes = models.SmallIntegerField(default=0)
    asked_at = models.DateTimeField(null=True)
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


class Waiting(models.Model):
    """A target that was tried and put down before its next attempt, when its worker's time was over.

    The id is that of its result to come. ``tried`` is encoded by ``fetcher.store.waiting``. A row stays until its lane
    is taken up after the result is there, or the run is over.
    """

    id = models.BigIntegerField(primary_key=True)
    lane = models.ForeignKey(Lane, on_delete=models.CASCADE, related_name="waiting")
    tried = models.BinaryField()

    def __str__(self) -> str:
        return f"target of result {self.pk}"


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
    """A Retry-After that every run keeps, for as long after ``told_at`` as it may wait itself."""

    host = models.CharField(max_length=270, unique=True)
    told_at = models.DateTimeField()
    until = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.host} until {self.until:%Y-%m-%d %H:%M:%S}"
