"""The tables. Only ``jobs.store`` and ``jobs.lists`` write the first four, the queue's own code the others.

The targets themselves are the fetcher's, stored once; a list has their ids, in the payloads that a run's shards have.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from jobs.schedules import Kind, Schedule


class Overlap(models.TextChoices):
    """What becomes of a firing while a run of the job is in progress."""

    SKIP = "skip"
    QUEUE = "queue"


class Missed(models.TextChoices):
    """What becomes of firings for which nobody was there: one run for all of them, or none."""

    ONE = "one"
    NONE = "none"


class TargetList(models.Model):
    """The targets of one import. A job has one at a time; one that no job has is being imported, or was left behind.

    ``read`` counts the entries of its source, ``size`` those that are targets and no duplicates. ``secrets`` says that
    its targets have some of their own, which are sealed in the payloads.
    """

    source = models.TextField(blank=True, default="")
    read = models.BigIntegerField(default=0)
    size = models.BigIntegerField(default=0)
    duplicates = models.BigIntegerField(default=0)
    rejected = models.BigIntegerField(default=0)
    secrets = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"list {self.pk}"


class JobShard(models.Model):
    """A bounded, ordered list of one lane's targets, with the payload of the fetcher's shards.

    A run of the job has a copy of these rows: no URL is parsed or stored again.
    """

    holds_targets: ClassVar = True  # fetcher.store.request_bodies
    list = models.ForeignKey(TargetList, on_delete=models.CASCADE, related_name="shards", db_index=False)
    number = models.IntegerField()
    part = models.IntegerField(default=0)
    size = models.IntegerField()
    payload = models.BinaryField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["list", "number", "part", "id"], name="jobs_shard_walk")]

    def __str__(self) -> str:
        return f"shard {self.pk}"


class JobRejectedLine(models.Model):
    """A line of an import that is no target. ``value`` is redacted."""

    list = models.ForeignKey(TargetList, on_delete=models.CASCADE, related_name="rejected_lines")
    source = models.TextField()
    line = models.BigIntegerField()
    value = models.TextField()
    reason = models.TextField()

    def __str__(self) -> str:
        return f"{self.source}:{self.line}"


class Job(models.Model):
    """A saved list of targets with options and a schedule.

    ``options`` and ``secrets`` are what a run has under these names (``fetcher.store.runs``), but these secrets stay as
    long as the job does. ``every_minutes``, ``at`` (HH:MM), ``weekday`` (0 is Monday), ``cron`` and ``time_zone`` are
    for the kinds of schedule that need them. ``start_jitter`` is seconds. Its runs know it by id and name, and outlive
    it.
    """

    name = models.CharField(max_length=200, unique=True)
    list = models.OneToOneField(TargetList, on_delete=models.PROTECT, related_name="job")
    options = models.JSONField(default=dict)
    secrets = models.BinaryField(null=True)
    schedule_kind = models.CharField(max_length=8, choices=[(kind.value, kind.value) for kind in Kind], default="none")
    every_minutes = models.IntegerField(null=True)
    at = models.CharField(max_length=5, blank=True, default="")
    weekday = models.SmallIntegerField(null=True)
    cron = models.CharField(max_length=100, blank=True, default="")
    time_zone = models.CharField(max_length=64, default="UTC")
    overlap = models.CharField(max_length=8, choices=Overlap.choices, default=Overlap.SKIP)
    missed = models.CharField(max_length=8, choices=Missed.choices, default=Missed.ONE)
    start_jitter = models.IntegerField(default=0)
    keep_runs = models.IntegerField(default=50)
    keep_days = models.IntegerField(default=30)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name

    @property
    def schedule(self) -> Schedule:
        """When it is due. Raises ScheduleError where this machine does not know its time zone."""
        return Schedule(
            kind=Kind(self.schedule_kind),
            every=self.every_minutes,
            at=self.at,
            weekday=self.weekday,
            cron=self.cron,
            time_zone=self.time_zone,
        )

    @schedule.setter
    def schedule(self, schedule: Schedule) -> None:
        self.schedule_kind = schedule.kind.value
        self.every_minutes = schedule.every
        self.at = schedule.at
        self.weekday = schedule.weekday
        self.cron = schedule.cron
        self.time_zone = schedule.time_zone


class FiringState(models.TextChoices):
    """What became of a firing."""

    RAN = "ran"
    SKIPPED = "skipped"
    WAITING = "waiting"
    MISSED = "missed"
    FAILED = "failed"


class Firing(models.Model):
    """A time at which a job was due, and what became of it: at most one run, however often the queue says so.

    ``state``: a run was begun; it was skipped, or waits, since another run was in progress (or the queue is away); it
    came too late; or nothing could be begun. ``at`` is when that was decided, ``reason`` says why.
    """

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="firings", db_index=False)
    intended_at = models.DateTimeField()
    at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=8, choices=FiringState.choices)
    # No constraint: runs are pruned without looking here.
    run = models.BigIntegerField(null=True)
    reason = models.TextField(blank=True, default="")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "intended_at"], name="jobs_firing_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["job"], condition=models.Q(state="waiting"), name="jobs_firing_waits"),
        ]

    def __str__(self) -> str:
        return f"{self.job_id} at {self.intended_at:%Y-%m-%d %H:%M:%S}"


class Cluster(models.Model):
    """A running ``qcluster``, as its guard tells every few seconds (``jobs.brokers``).

    ``hostname``, ``boot_id``, ``pid`` and ``process_started`` are the guard's, as ``fetcher.machine`` has them;
    ``main_pid`` is the process that takes SIGTERM. ``replaced`` counts workers that ended and were replaced. ``skew``
    is by how many seconds its machine's clock is ahead of the database's.
    """

    token = models.UUIDField(unique=True)
    hostname = models.CharField(max_length=255)
    boot_id = models.CharField(max_length=64, blank=True, default="")
    pid = models.IntegerField()
    process_started = models.BigIntegerField(null=True)
    main_pid = models.IntegerField()
    workers = models.IntegerField(default=0)
    replaced = models.IntegerField(default=0)
    stopping = models.BooleanField(default=False)
    skew = models.FloatField(default=0.0)
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.hostname}:{self.main_pid}"
