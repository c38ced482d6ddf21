"""A request as a ``curl`` line that a person can paste into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from fetcher.engine.references import EnvReference, HeaderValue
from fetcher.engine.sensitive import MASK
from fetcher.payloads import RequestItem
from fetcher.shown import shown_url, shown_value

SECRET = "SECRET"  # noqa: S105  (the word that stands for one)


def curl_line(
    request: RequestItem, run_headers: Iterable[tuple[str, HeaderValue]], *, redirects: int, deadline: float
) -> str:
    """Return the same request as one shell-quoted line.

    Secrets are left out: their header or parameter is there with a value to fill in, a reference to the environment as
    the shell's ``$NAME``. So is a body, of which only the length is told. ``run_headers`` are the run's, which the
    target's own go over; ``redirects`` and ``deadline`` (seconds) are the run's options.
    """
    words = ["curl", "--include", "--max-time", f"{deadline:g}"]
    if request.method == "HEAD":
        words.append("--head")
    elif request.method != "GET":
        words += ["--request", shlex.quote(request.method)]
    if redirects:
        words += ["--location", "--max-redirs", str(redirects)]
    for name, value in merged(run_headers, request.headers).items():
        words += _header(name, value)
    if request.body_bytes is not None:
        words += ["--data-binary", "@BODY"]
    # --globoff: to curl brackets and braces in a URL are patterns.
    words += ["--globoff", "--", shlex.quote(shown_url(request.url, mask=SECRET))]
    return " ".join(words)


def merged(run_headers: Iterable[tuple[str, HeaderValue]], own: Mapping[str, str]) -> dict[str, HeaderValue]:
    """Return headers by lower-case name, a target's own over the run's."""
    return {**{name.lower(): value for name, value in run_headers}, **{name.lower(): own[name] for name in own}}


def _header(name: str, value: HeaderValue) -> list[str]:
    if isinstance(value, EnvReference) and value.variable.isidentifier() and value.variable.isascii():
        if not value.basic:
            return ["--header", f'{shlex.quote(f"{name}: ")}"${value.variable}"']
        if name == "authorization":
            return ["--user", f'"${value.variable}"']
    text = value if isinstance(value, str) else MASK
    shown = SECRET if text == MASK else shown_value(name, text).replace(MASK, SECRET)
    return ["--header", shlex.quote(f"{name}: {shown}")]
