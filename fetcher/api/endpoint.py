"""What every address of the API does before and after its own work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from functools import wraps
from http import HTTPStatus
from typing import Any, Concatenate, ParamSpec

from django.http import HttpRequest, HttpResponseBase

from fetcher.api.access import check_access
from fetcher.api.errors import Problem, problem_response
from fetcher.api.parameters import Parameter, read_parameters

logger = logging.getLogger(__name__)

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], Coroutine[Any, Any, HttpResponseBase]]
Inner = Callable[Concatenate[HttpRequest, dict[str, Any], P], Coroutine[Any, Any, HttpResponseBase]]

METHODS = ("GET", "HEAD")


def endpoint(*declared: Parameter, strict: bool = True) -> Callable[[Inner[P]], View[P]]:
    """Make a view of a function that takes the request, its parsed parameters, and what the path gives.

    The caller's right to read is checked before anything else is told. A Problem, and whatever else goes wrong, is
    answered as problem+json. Without ``strict`` the query is left alone.
    """

    def decorate(inner: Inner[P]) -> View[P]:
        @wraps(inner)
        async def view(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            try:
                await check_access(request)
                if request.method not in METHODS:
                    raise Problem(
                        HTTPStatus.METHOD_NOT_ALLOWED,
                        f"{request.method} is not allowed here; there is only reading (GET, HEAD).",
                        headers={"Allow": ", ".join(METHODS)},
                    )
                given = read_parameters(request.GET, declared) if strict else {}
                return await inner(request, given, *args, **kwargs)
            except Problem as problem:
                return problem_response(request, problem)
            except Exception:
                logger.exception("%s %s failed", request.method, request.path)
                return problem_response(
                    request,
                    Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here; the server's log says what."),
                )

        return view

    return decorate
