"""A request as a ``curl`` line that a person can paste into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from fetcher.payloads import MASK, RequestItem


def curl_line(request: RequestItem, run_headers: Iterable[tuple[str, str]], *, redirects: int, deadline: float) -> str:
    """Return the same request as one shell-quoted line.

    Secrets are left out: their header is there with a value to fill in, ``env:NAME`` as the shell's ``$NAME``. So is a
    body, of which only the length is told. ``run_headers`` are the run's, which the target's own go over; ``redirects``
    and ``deadline`` (seconds) are the run's options.
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
    words += ["--globoff", "--", shlex.quote(request.url)]
    return " ".join(words)


def merged(run_headers: Iterable[tuple[str, str]], own: Mapping[str, str]) -> dict[str, str]:
    """Return headers by lower-case name, a target's own over the run's."""
    return {**{name.lower(): value for name, value in run_headers}, **{name.lower(): own[name] for name in own}}


def _header(name: str, value: str) -> list[str]:
    if value == MASK:
        return ["--header", shlex.quote(f"{name}: SECRET")]
    kind, _, variable = value.partition(":")
    if kind in ("env", "basic-env") and variable.isidentifier() and variable.isascii():
        if kind == "basic-env" and name == "authorization":
            return ["--user", f'"${variable}"']
        if kind == "env":
            return ["--header", f'{shlex.quote(f"{name}: ")}"${variable}"']
    return ["--header", shlex.quote(f"{name}: {value}")]
