"""The story of one result: what was asked, what happened, what it then waited for and why, and what may help."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TextIO

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fetcher.bodies import BodyUnavailable, open_body
from fetcher.cli.curl import curl_line
from fetcher.cli.summary import print_parts
from fetcher.cli.text import count, duration, printable, size
from fetcher.content import decoded
from fetcher.engine.config import FetchConfig
from fetcher.engine.errors import ErrorKind
from fetcher.headers import load_headers
from fetcher.models import Body, Result, Run
from fetcher.payloads import AttemptItem, ResultDetail, RunItem, encode
from fetcher.shown import shown_text, shown_url

_COLOURS = {"succeeded": "green", "not_modified": "green", "failed": "red", "skipped": "yellow"}
_LINES = 20
_WIDTH = 200
_READ = 16 * 1024
"""Bytes of a body that are looked at."""
_TEXTUAL = re.compile(r"text/|application/(?:[\w.+-]*\+)?(?:json|xml|javascript|x-www-form-urlencoded|x-ndjson)\b")
_WAITS = {
    "retry_after": "as the server asked for (Retry-After)",
    "backoff": "before the next attempt (backoff)",
}
_HINTS = {
    ErrorKind.BLOCKED_ADDRESS: "If that address is meant to be fetched from, allow its network: --allow-network CIDR, "
    "or FETCHER_ALLOWED_NETWORKS.",
    ErrorKind.TOO_LARGE: "Allow larger bodies: --max-body 100MiB.",
    ErrorKind.TOO_MANY_REDIRECTS: "Follow more redirects with --max-redirects N, or none with --max-redirects 0, "
    "where the redirect itself is the result.",
    ErrorKind.DNS: "The name could not be looked up: check its spelling, and the name server of this machine.",
    ErrorKind.CONNECT: "Nothing accepted the connection: check the port, and whether the server is up.",
    ErrorKind.TLS: "Look at the certificate: its host name, its dates, and who signed it (an authority of your own: "
    "FETCHER_CA_FILE).",
    ErrorKind.PROTOCOL: "The server broke off or sent what is no HTTP: try again later, or with fewer at once "
    "(--per-host 1).",
    ErrorKind.DECODING: "The server's Content-Encoding does not fit what it sent; the curl line below asks for none.",
    ErrorKind.CANCELLED: "The call's deadline was over first: FETCHER_FANOUT_DEADLINE.",
    ErrorKind.INTERNAL: "This is a mistake in Trawl; please report it with what is above.",
}


def print_story(stream: TextIO, result: ResultDetail, run: RunItem) -> None:
    """Print all that is known of one result, as text; nothing that a server sent can command a terminal."""
    parts: list[RenderableType] = [_head(result, run)]
    if text := hint(result):
        parts.append(Text(f"What may help: {text}"))
    for title, table in (
        ("Attempts", _attempts(result)),
        ("Redirects", _redirects(result)),
        ("Timings of the last attempt", _timings(result)),
        ("Response headers", _headers(result)),
    ):
        if table.rows:
            parts += [_titled(title, table)]
    parts += list(_body(result))
    parts.append(_request(result, run))
    print_parts(stream, parts)


def _titled(title: str, table: Table) -> RenderableType:
    for column in table.columns:
        column.overflow = "fold"  # an ellipsis would hide the end of a URL
    return Group(title, table)


def _head(result: ResultDetail, run: RunItem) -> Text:
    text = Text(f"Result {result.id}", "bold")
    text.append(f" of run {run.id}", "not bold")
    if run.label:
        text.append(f" ({printable(run.label)})", "not bold")
    text.append(f"\n{result.method} {printable(shown_url(result.url))}", "not bold")
    if result.label:
        text.append(f"\nLabel: {printable(result.label)}", "not bold")
    text.append(f"\n{verdict(result)}", f"not bold {_COLOURS.get(result.status, '')}")
    return text


def verdict(result: ResultDetail) -> str:
    """Return in one sentence how it ended."""
    took = f"after {count(result.attempts, 'attempt')} in {duration(result.elapsed_ms / 1000)}"
    detail = f": {printable(result.error_detail)}" if result.error_detail else ""
    match result.status:
        case "succeeded":
            body = f", {size(result.bytes)}" + (f" of {printable(result.content_type)}" if result.content_type else "")
            changed = {True: ", changed since the last time", False: ", the same as the last time", None: ""}
            return f"Succeeded with {result.http_status} {took}{body}{changed[result.changed]}."
        case "not_modified":
            return f"Not modified (304) {took}: the body is the one from before."
        case "skipped":
            return f"Skipped, never requested: its host was given up ({result.error_kind}){detail}."
        case _:
            status = f" {result.http_status}" if result.error_kind == ErrorKind.HTTP_STATUS else ""
            return f"Failed with {result.error_kind}{status} {took}{detail}."


def hint(result: ResultDetail) -> str | None:
    """Return what may help against a failure; None where nothing is to be helped."""
    if result.error_kind is None:
        return None
    if result.status == "skipped":
        return "Try its host again later, or give it more tries: --host-failures N."
    if result.error_kind == ErrorKind.TIMEOUT:
        named = re.search(r"\((--[a-z-]+)\)", result.error_detail or "")
        option = named[1] if named else "--connect-timeout, --read-timeout, --deadline or --total-deadline"
        return f"Allow more time: {option} TIME, such as 2m."
    if result.error_kind == ErrorKind.HTTP_STATUS:
        return _status_hint(result.http_status or 0)
    return _HINTS.get(ErrorKind(result.error_kind))


def _status_hint(status: int) -> str:
    if status in (401, 403, 407):
        return "The server wants credentials, or other ones: --header 'Authorization: env:NAME'."
    if status == 429:
        return "The server asks for patience: --host-delay 1s, --per-host 1, or --max-attempts N."
    if status >= 500:
        return "The server failed: try again later, or more often: --max-attempts N."
    return "The server refused this request; its answer is below."


def _attempts(result: ResultDetail) -> Table:
    table = _table()
    for attempt in result.attempt_log:
        wait = "" if attempt.waited_ms is None else _wait(attempt)
        table.add_row(
            "",
            f"{attempt.number}.",
            f"{attempt.started_at[11:23]} UTC",
            f"{duration(attempt.elapsed_ms / 1000)}",
            printable(attempt.address or "not connected"),
            Text(_happened(attempt) + wait),
        )
    return table


def _happened(attempt: AttemptItem) -> str:
    facts = []
    if attempt.http_status is not None:
        facts.append(f"answered {attempt.http_status} over {printable(attempt.http_version or 'HTTP')}")
    if attempt.error_kind is not None and (attempt.error_kind != ErrorKind.HTTP_STATUS or not facts):
        facts.append(attempt.error_kind)
    text = ", ".join(facts) or "no answer"
    return f"{text}: {printable(attempt.error_detail)}" if attempt.error_detail else text


def _wait(attempt: AttemptItem) -> str:
    why = _WAITS.get(attempt.wait_reason or "", printable(attempt.wait_reason or ""))
    return f"\nthen waited {duration((attempt.waited_ms or 0) / 1000)} {why}"


def _redirects(result: ResultDetail) -> Table:
    table = _table()
    for hop in result.redirects:
        table.add_row(
            "", str(hop.status), Text(f"{printable(shown_url(hop.url))}\nto {printable(shown_url(hop.location))}")
        )
    return table


def _timings(result: ResultDetail) -> Table:
    table = _table()
    if result.timings is not None:
        for name, value in (
            ("name look-up", result.timings.dns_ms),
            ("connection", result.timings.connect_ms),
            ("TLS", result.timings.tls_ms),
            ("first byte", result.timings.first_byte_ms),
            ("total", result.timings.total_ms),
        ):
            if value is not None:
                table.add_row("", name, f"{value:,.1f} ms")
    return table


def _headers(result: ResultDetail) -> Table:
    table = _table()
    for name, value in result.headers.items():
        table.add_row("", Text(f"{printable(name)}: {printable(shown_text(value))}"))
    return table


def _body(result: ResultDetail) -> Iterator[RenderableType]:
    if result.body_url is None and result.body_sha256 is None:
        return
    body = Body.objects.filter(representations__in=_representation(result.id)).first()
    if body is None:
        return
    kind = printable(result.content_type or "unknown type")
    title = f"Body: {size(body.size)}, {kind}, SHA-256 {result.body_sha256}"
    try:
        start = _start(body)
    except BodyUnavailable as exc:
        yield Text(f"{title}\n  it cannot be shown: {printable(str(exc))}")
        return
    if not looks_textual(result.content_type, start):
        yield Text(f"{title}\n  it is no text; {result.body_url or 'the API'} has the bytes")
        return
    lines = first_lines(decoded(result.content_type or "", start), whole=len(start) >= body.size)
    yield Text("\n".join([title, *(f"  {line}" for line in lines)]))


def _representation(number: int) -> list[int]:
    found = Result.objects.filter(id=number, representation__isnull=False)
    return list(found.values_list("representation_id", flat=True))


def _start(body: Body) -> bytes:
    start = b""
    for chunk in open_body(body):
        start += chunk
        if len(start) >= _READ:
            break
    return start[:_READ]


def looks_textual(content_type: str | None, start: bytes) -> bool:
    """Whether a body can be shown as text: its type says so, or it says nothing and the bytes are UTF-8."""
    if content_type:  # in UTF-16 half of the bytes may be 0
        return _TEXTUAL.match(content_type.strip().lower()) is not None and "\0" not in decoded(content_type, start)
    try:
        start[: _READ - 4].decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in start


def first_lines(text: str, *, whole: bool) -> list[str]:
    """Return the first lines of a text, bounded in number and width, without what could command a terminal."""
    lines = text.splitlines()
    shown = [printable(line.replace("\t", "    ")[: _WIDTH + 1]) for line in lines[:_LINES]]
    shown = [line if len(line) <= _WIDTH else f"{line[:_WIDTH]}…" for line in shown]
    return shown if whole and len(lines) <= _LINES else [*shown, "…"]


def _request(result: ResultDetail, run: RunItem) -> Text:
    defaults = FetchConfig()
    # As they are stored: what is shown of a reference is text, and text must not become the shell's $NAME.
    stored = Run.objects.filter(pk=run.id).values_list("options", flat=True).first() or {}
    headers = load_headers(stored.get("headers"))
    agent = run.options.get("user_agent", defaults.user_agent)
    line = curl_line(
        result.request,
        [("user-agent", str(agent)), *headers],
        redirects=run.options.get("max_redirects", defaults.max_redirects),
        deadline=run.options.get("deadline", defaults.deadline),
    )
    text = Text(f"The same request\n  {printable(line)}")
    if "SECRET" in line:
        text.append("\n  write the value of a secret header or parameter in place of SECRET")
    if result.request.body_bytes is not None:
        text.append(f"\n  BODY is a file with its {count(result.request.body_bytes, 'byte')}")
    return text


def _table() -> Table:
    return Table.grid(padding=(0, 2, 0, 0))


def document(result: ResultDetail) -> str:
    """Return a result as one JSON document, indented."""
    return msgspec.json.format(encode(result), indent=2).decode()
