"""What is fetched and what came of it: targets, results, and bodies that are kept once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from django.db import models

from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Status
from fetcher.engine.urls import fingerprint
from fetcher.fields import EpochField
from fetcher.models.runs import PLACES, Run, Shard, lane_number


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

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["id"], condition=models.Q(body__isnull=False), name="fetcher_target_body"),
        ]

    def __str__(self) -> str:
        return f"target {self.pk}"


class Body(models.Model):
    """Stored content, addressed by its SHA-256 and kept once.

    ``size`` counts decoded bytes. ``encoding`` says how ``content`` is stored: empty as it is, ``zstd`` compressed
    (``zlib`` in older rows).
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
