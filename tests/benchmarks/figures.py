"""A measured figure and its goal."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Figure:
    """``sense`` says which side of the goal is good; without a goal the figure is only told."""

    name: str
    value: float
    unit: str = ""
    goal: float | None = None
    sense: Literal["at least", "at most"] = "at least"

    @property
    def reached(self) -> bool:
        if self.goal is None:
            return True
        return self.value >= self.goal if self.sense == "at least" else self.value <= self.goal

    def row(self) -> str:
        value = f"{self.value:,.2f}{self.unit}" if self.value < 1000 else f"{self.value:,.0f}{self.unit}"
        goal = "" if self.goal is None else f"{self.sense} {self.goal:g}{self.unit}"
        return f"{self.name:<64} {value:>10}  {goal}{'' if self.reached else '   MISSED'}"


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
