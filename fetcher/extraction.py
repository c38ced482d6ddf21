"""What a JMESPath expression finds in the bodies of outcomes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from fetcher.content import is_json
from fetcher.engine.bodies import SpilledBody
from fetcher.engine.types import Outcome
from fetcher.evaluator import Answer
from fetcher.expressions import NotExtracted, compile_expression, evaluate, is_path
from fetcher.sandbox import Body, Sandbox

BATCH_SECONDS = 20.0
"""For all outcomes of one call, on a busy machine as well. A lease (60 s) is renewed every 15 s in the same thread."""
SMALL_BODY_BYTES = 64 * 2**10
"""A path is looked for here in bodies of at most this size: decoding holds every other thread, for 5 ms at worst."""
_STOPS = 10
"""After so many bodies in a row over which an expression was stopped it is not applied to others."""
_CHUNK_BODIES = 256
_CHUNK_BYTES = 256 * 2**10
"""Of bodies that are handed to the evaluator at once, with one more body, which may be of any size."""


class Found(NamedTuple):
    """A JSON value that an expression finds in a body, None where it finds nothing; ``remark`` says what stopped it."""

    value: Any
    remark: str = ""


NOTHING = Found(None)


class Extract:
    """An expression, applied to outcomes. Raises ValueError saying why it cannot be read.

    A path such as ``a.b[0].c`` is looked for in this process. Whatever could take longer or more memory than its body
    is left to an evaluator process, which bounds the time and memory of each body.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._expression = compile_expression(text)
        self._is_path = is_path(self._expression)
        self._stops = 0

    def __call__(self, outcomes: Iterable[Outcome], *, seconds: float = BATCH_SECONDS) -> list[Found]:
        """Return what it finds in each, in ``seconds`` at most; what is not done by then has a remark."""
        found: list[Found] = []
        places: list[int] = []
        bodies: list[Body] = []
        with Sandbox(self._text, seconds) as sandbox:
            for outcome in outcomes:
                body = _json_body(outcome)
                if body is None:
                    found.append(NOTHING)
                elif self._is_path and len(body) <= SMALL_BODY_BYTES:
                    found.append(self._look_here(body))
                else:
                    places.append(len(found))
                    bodies.append(body)
                    found.append(NOTHING)
                    if len(bodies) >= _CHUNK_BODIES or sum(map(len, bodies)) >= _CHUNK_BYTES:
                        self._look_there(sandbox, places, bodies, found)
            if bodies:
                self._look_there(sandbox, places, bodies, found)
        return found

    def _look_here(self, body: Body) -> Found:
        try:
            return Found(evaluate(self._expression, body.read() if isinstance(body, SpilledBody) else body))
        except NotExtracted as exc:
            return Found(None, str(exc))

    def _look_there(self, sandbox: Sandbox, places: list[int], bodies: list[Body], found: list[Found]) -> None:
        """Fill in what is found in these bodies; both lists are emptied."""
        if self._stops >= _STOPS:
            given_up = Answer(None, f"the expression was not applied: it was stopped {_STOPS} times in a row", True)
            answers = [given_up] * len(bodies)
        else:
            answers = sandbox.answers(bodies)
        for place, answer in zip(places, answers, strict=True):
            self._stops = self._stops + 1 if answer.stopped else 0
            found[place] = Found(None if answer.json is None else json.loads(answer.json), answer.remark)
        places.clear()
        bodies.clear()


def parse_extract(text: str) -> Extract:
    """Compile a JMESPath expression. Raises ValueError saying why it cannot be read."""
    return Extract(text)


def _json_body(outcome: Outcome) -> Body | None:
    return outcome.body if outcome.body and is_json(outcome.header("content-type")) else None
