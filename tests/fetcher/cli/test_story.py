"""The story of one result."""

from __future__ import annotations

import io

import pytest

from fetcher.cli.story import first_lines, hint, looks_textual, print_story, verdict
from fetcher.engine.errors import ErrorKind
from fetcher.engine.types import Attempt, Redirect, Timings
from fetcher.models import Run
from fetcher.payloads import result_detail, run_items
from tests.rows import detail_of, make_body, make_result, make_run

pytestmark = pytest.mark.django_db


def detail(**values):
    return result_detail(make_result(make_run(), **values).pk)


def story(**values) -> str:
    run = make_run(label="nightly", options={"headers": [["Authorization", "***"]], "max_redirects": 5, "deadline": 9})
    result = make_result(run, **values)
    out = io.StringIO()
    print_story(out, result_detail(result.pk), run_items(Run.objects.filter(pk=run.pk))[0])
    return out.getvalue()


class TestVerdict:
    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            (
                {"bytes": 2048, "changed": True},
                "Succeeded with 200 after 1 attempt in 250 ms, 2.0 KiB, changed since the last time.",
            ),
            (
                {"status": "not_modified", "http_status": 304},
                "Not modified (304) after 1 attempt in 250 ms: the body is the one from before.",
            ),
            (
                {"status": "failed", "error_kind": "timeout", "error_detail": "late", "attempts": 4},
                "Failed with timeout after 4 attempts in 250 ms: late.",
            ),
            (
                {"status": "failed", "error_kind": "http_status", "http_status": 404},
                "Failed with http_status 404 after 1 attempt in 250 ms.",
            ),
            (
                {"status": "skipped", "error_kind": "dns", "attempts": 0},
                "Skipped, never requested: its host was given up (dns).",
            ),
        ],
    )
    def test_is_one_sentence(self, values, sentence):
        assert verdict(detail(**values)) == sentence


class TestHint:
    @pytest.mark.parametrize("kind", list(ErrorKind))
    def test_every_failure_but_a_bad_url_has_one(self, kind):
        found = hint(detail(status="failed", error_kind=kind.value))
        assert (found is None) == (kind is ErrorKind.INVALID_URL)

    @pytest.mark.parametrize(
        ("kind", "text", "option"),
        [
            ("blocked_address", "", "--allow-network"),
            ("timeout", "no bytes for 30 s (--read-timeout)", "--read-timeout TIME, such as 2m"),
            ("timeout", "took long (--deadline)", "--deadline TIME, such as 2m"),
            ("timeout", "", "--total-deadline"),
            ("too_large", "", "--max-body"),
            ("too_many_redirects", "", "--max-redirects"),
        ],
    )
    def test_names_the_option(self, kind, text, option):
        assert option in hint(detail(status="failed", error_kind=kind, error_detail=text))

    @pytest.mark.parametrize(("status", "text"), [(401, "credentials"), (429, "--host-delay"), (503, "--max-attempts"),
                                                  (404, "refused")])  # fmt: skip
    def test_depends_on_the_status(self, status, text):
        assert text in hint(detail(status="failed", error_kind="http_status", http_status=status))

    def test_is_not_there_for_a_success(self):
        assert hint(detail()) is None


class TestStory:
    def test_tells_attempts_and_waits(self):
        attempts = (
            Attempt(number=1, started_at=0.0, elapsed=0.1, address="192.0.2.1:443", http_status=429, waited=2.0,
                    http_version="HTTP/1.1",
                    wait_reason="retry_after", error_kind=ErrorKind.HTTP_STATUS, error_detail="HTTP 429"),
            Attempt(number=2, started_at=2.1, elapsed=0.1, address="192.0.2.1:443", http_status=200,
                    timings=Timings(dns=0.001, connect=0.002, tls=0.003, first_byte=0.05)),
        )  # fmt: skip
        found = story(detail=detail_of(None, attempts=attempts), attempts=2)
        assert "answered 429 over HTTP/1.1: HTTP 429" in found
        assert "then waited 2.0 s as the server asked for (Retry-After)" in found
        assert "TLS" in found
        assert "3.0 ms" in found

    def test_tells_redirects_and_headers(self):
        hops = (Redirect(302, "https://example.com/", "/next"),)
        found = story(detail=detail_of(None, redirects=hops, headers=(("Server", "x"), ("Set-Cookie", "s=1"))))
        assert "302  https://example.com/\n       to /next" in found
        assert "server: x" in found
        assert "s=1" not in found

    def test_shows_the_first_lines_of_a_text(self):
        body = make_body(b"one\n\x1b[31mtwo\x9b\n" + b"three\n" * 100)
        found = story(body=body, content_type="text/plain")
        assert "\n  one\n   [31mtwo" in found
        assert found.count("three") < 30
        assert "…" in found

    @pytest.mark.parametrize(
        ("charset", "codec"),
        [("iso-8859-1", "latin-1"), ('"windows-1252"', "cp1252"), ("utf-16", "utf-16"), ("shift_jis", "shift_jis"),
         ("UTF-8", "utf-8-sig"), ("no-such-charset", "utf-8")],
    )  # fmt: skip
    def test_shows_a_text_in_its_charset(self, charset, codec):
        text = "名前\nsecond" if codec == "shift_jis" else "Größe\nsecond"
        found = story(body=make_body(text.encode(codec)), content_type=f"text/html; charset={charset}")
        assert f"\n  {text.splitlines()[0]}\n  second\n" in found

    def test_shows_a_text_that_is_cut_within_a_character(self):
        found = story(body=make_body(("é" * 20_000).encode()), content_type="text/plain; charset=utf-8")
        assert "\ufffd" not in found

    def test_shows_no_binary(self):
        found = story(body=make_body(b"\x89PNG\x00"), content_type="image/png")
        assert "it is no text" in found
        assert "PNG\x00" not in found

    def test_says_where_a_body_is_gone(self):
        assert "it cannot be shown" in story(body=make_body(b"x", content=None), content_type="text/plain")

    def test_has_no_secret_in_the_curl_line(self):
        found = story(headers=[["X-Api-Key", "k3y"]])
        assert "authorization: SECRET" in found
        assert "x-api-key: SECRET" in found
        assert "k3y" not in found
        assert "--max-time 9 --location --max-redirs 5" in found

    def test_lets_nothing_command_the_terminal(self):
        evil = "\x1b]0;owned\x07\x9b2J\r\n"
        found = story(
            status="failed",
            error_kind="protocol",
            error_detail=evil,
            label=evil,
            content_type=evil,
            body=make_body(evil.encode()),
            detail=detail_of(None, headers=(("X", evil),), redirects=(Redirect(302, evil, evil),)),
        )
        assert not [char for char in found if not char.isprintable() and char != "\n"]


@pytest.mark.parametrize(
    ("content_type", "start", "found"),
    [
        ("text/html; charset=x", b"a", True),
        ("application/json", b"{}", True),
        ("application/ld+json", b"{}", True),
        ("image/svg+xml", b"<svg>", False),
        ("application/octet-stream", b"text", False),
        ("text/plain", b"a\x00b", False),
        ("text/plain; charset=utf-16le", b"a\x00b\x00", True),
        (None, "é".encode(), True),
        (None, b"\xff\xfe", False),
    ],
)
def test_text_is_told_by_type_then_by_bytes(content_type, start, found):
    assert looks_textual(content_type, start) is found


def test_first_lines_are_bounded():
    lines = first_lines("x" * 5000 + "\n" + "y\n" * 500, whole=True)
    assert len(lines) <= 21
    assert max(map(len, lines)) <= 201
    assert lines[-1] == "…"
