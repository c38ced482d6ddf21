"""What every address of the API does before and after its own work."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from http import HTTPStatus
from typing import Any, Concatenate, ParamSpec, cast

from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from fetcher.api.access import check_access
from fetcher.api.errors import Problem, problem_response
from fetcher.api.parameters import Parameter, read_parameters

logger = logging.getLogger(__name__)

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], Coroutine[Any, Any, HttpResponseBase]]
Inner = Callable[Concatenate[HttpRequest, dict[str, Any], P], Coroutine[Any, Any, HttpResponseBase]]

METHODS = ("GET", "HEAD")


def _not_allowed(request: HttpRequest, methods: tuple[str, ...]) -> Problem:
    allowed = ", ".join(methods)
    return Problem(
        HTTPStatus.METHOD_NOT_ALLOWED,
        f"{request.method} is not allowed here; allowed: {allowed}.",
        headers={"Allow": allowed},
    )


def endpoint(
    *declared: Parameter,
    strict: bool = True,
    methods: tuple[str, ...] | None = METHODS,
    check: Callable[[HttpRequest], Awaitable[None]] = check_access,
) -> Callable[[Inner[P]], View[P]]:
    """Make a view of a function that takes the request, its parsed parameters, and what the path gives.

    The caller's right is checked before anything else is told, by ``check``; that a session's POST is no forgery is for
    it to say as well, so that it is told as a Problem. A Problem, and whatever else goes wrong, is
    answered as problem+json. Without ``strict`` the query is left alone. ``methods`` None allows any method.
    """

    def decorate(inner: Inner[P]) -> View[P]:
        @wraps(inner)
        async def view(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            try:
                await check(request)
                if methods is not None and request.method not in methods:
                    raise _not_allowed(request, methods)
                given = read_parameters(request.GET, declared) if strict else {}
                return await inner(request, given, *args, **kwargs)
            except Problem as problem:
                return problem_response(request, problem)
            except SuspiciousOperation as exc:  # what Django refuses to read: too many parameters, a foreign Host
                return problem_response(request, Problem(HTTPStatus.BAD_REQUEST, str(exc)[:500]))
            except Exception:
                logger.exception("%s %r failed", request.method, request.path)  # which can have line breaks
                return problem_response(
                    request,
                    Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here; the server's log says what."),
                )

        return cast("View[P]", csrf_exempt(view))

    return decorate


def with_post(read: View[P], start: View[P]) -> View[P]:
    """Make the view of an address that is read by one view and answers POST by another."""

    @csrf_exempt
    @wraps(read)
    async def view(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        return await (start if request.method == "POST" else read)(request, *args, **kwargs)

    return cast("View[P]", view)
