"""The tables. Only ``fetcher.store`` writes them; querysets here serve the readers.

A URL costs one Target the first time it is seen, one Body when its content is new, and one Result in every run.
"""

from __future__ import annotations

from fetcher.models.results import ERROR_KINDS, GOOD, Body, Representation, Result, ResultQuerySet, ResultStatus, Target
from fetcher.models.runs import (
    LANES,
    OVER,
    PLACES,
    SHARD_SIZE,
    WAKING,
    HostPause,
    Lane,
    LaneQuerySet,
    RejectedLine,
    Run,
    RunQuerySet,
    RunState,
    Shard,
    Waiting,
    Worker,
    WorkerQuerySet,
    lane_number,
)

__all__ = [
    "ERROR_KINDS",
    "GOOD",
    "LANES",
    "OVER",
    "PLACES",
    "SHARD_SIZE",
    "WAKING",
    "Body",
    "HostPause",
    "Lane",
    "LaneQuerySet",
    "RejectedLine",
    "Representation",
    "Result",
    "ResultQuerySet",
    "ResultStatus",
    "Run",
    "RunQuerySet",
    "RunState",
    "Shard",
    "Target",
    "Waiting",
    "Worker",
    "WorkerQuerySet",
    "lane_number",
]
