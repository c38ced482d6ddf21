"""Errors as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse

from fetcher.payloads import encode

CONTENT_TYPE = "application/problem+json"


class Problem(Exception):
    """A request cannot be answered as asked.

    ``detail`` says what was wrong and what would be right. ``members`` are extension members of the answer (RFC 9457,
    section 3.2): ``parameter`` names the query parameter at fault.
    """

    def __init__(
        self, status: HTTPStatus, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.members = members


def bad_parameter(name: str, detail: str, **members: Any) -> Problem:
    """Return the Problem (400) of a query parameter; ``detail`` begins after its name."""
    return Problem(HTTPStatus.BAD_REQUEST, f"{name} {detail}", parameter=name, **members)


def not_found(detail: str) -> Problem:
    """Return the Problem (404) of something that is not there."""
    return Problem(HTTPStatus.NOT_FOUND, detail)


def problem_response(request: HttpRequest, problem: Problem) -> HttpResponse:
    """Write a problem down. ``type`` is ``about:blank``: the status says which kind it is (RFC 9457, section 4.2.1)."""
    document = {
        "type": "about:blank",
        "title": problem.status.phrase,
        "status": problem.status.value,
        "detail": problem.detail,
        "instance": request.path,
        **problem.members,
    }
    return HttpResponse(
        encode(document),
        status=problem.status,
        content_type=CONTENT_TYPE,
        headers={"Cache-Control": "no-store", **problem.headers},
    )
