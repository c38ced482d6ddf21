"""What was measured, on what and when; kept as JSON, so that the page can be written again."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.benchmarks.peers.rounds import Measured
from tests.benchmarks.peers.workloads import WORKLOADS
from tests.benchmarks.stacks.measuring import Report

FOLDER = Path(__file__).parents[1] / "results"


class Results(msgspec.Struct):
    """Reports by workload and contender. ``flatness`` is M's peaks at the end against those early, one a round."""

    date: str = ""
    scale: float = 1.0
    machine: dict[str, str] = {}
    versions: dict[str, str] = {}
    measured: dict[str, dict[str, Measured]] = {}
    flatness: list[float] = []

    def reports(self, workload: str, contender: str) -> list[Report]:
        """Return a contender's reports, one a round; none where it was not measured."""
        found = self.measured.get(workload, {}).get(contender)
        return found.reports if found else []

    def ideal(self, workload: str) -> float:
        """Return the most that can be answered in a second."""
        ideal = WORKLOADS[workload].ideal
        assert ideal is not None
        return ideal

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Results | None:
        """Return what was written there, or None."""
        return msgspec.json.decode(path.read_bytes(), type=cls) if path.exists() else None
