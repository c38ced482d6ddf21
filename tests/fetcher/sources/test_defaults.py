"""A run's method and body, for targets that do not say otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fetcher.engine.types import Target
from fetcher.sources import Entry, with_defaults
from fetcher.sources.fields import Fields, entry_for_fields

URL = "http://a.example/"


def asked(run: dict, **own) -> Entry:
    entries = iter([entry_for_fields("list", 1, Fields(URL, **own))])
    [entry] = with_defaults(entries, **{"method": None, "data": None, **run})
    return entry


@pytest.mark.parametrize(
    ("run", "own", "expected"),
    [
        ({}, {}, ("GET", None)),
        ({"method": "DELETE"}, {}, ("DELETE", None)),
        ({"data": b"x"}, {}, ("POST", b"x")),
        ({"data": b""}, {}, ("POST", b"")),
        ({"data": b"x", "method": "PUT"}, {}, ("PUT", b"x")),
        ({"data": b"x"}, {"method": "GET"}, ("GET", None)),
        ({"data": b"x"}, {"method": "POST"}, ("POST", None)),
        ({"data": b"x"}, {"body": "own"}, ("POST", b"own")),
        ({"method": "PUT"}, {"body": "own"}, ("PUT", b"own")),
        ({"method": "PUT"}, {"body": "own", "method": "PATCH"}, ("PATCH", b"own")),
    ],
)
def test_go_with_targets_that_do_not_say_otherwise(run, own, expected):
    target = asked(run, **own).target
    assert (target.method, target.body) == expected


def test_leave_label_headers_and_retry_alone():
    target = asked({"method": "PUT"}, label="seven", retry=True, headers={"A": "1"}).target
    assert (target.label, target.retry, target.headers) == ("seven", True, (("A", "1"),))


def test_a_body_that_the_method_cannot_carry_rejects_the_line():
    entry = asked({"method": "HEAD"}, body="own")
    assert entry.target is None
    assert entry.where == "list:1"
    assert entry.reason.startswith("body: a HEAD request has none (--method)")


def test_rejected_lines_pass():
    rejected = Entry("list", 1, value="x", reason="is not a URL")
    assert list(with_defaults(iter([rejected]), method="PUT", data=None)) == [rejected]


def test_a_source_that_is_left_is_closed():
    closed = []

    def source() -> Iterator[Entry]:
        try:
            while True:
                yield Entry("list", 1, Target(URL, "a.example:80"))
        finally:
            closed.append(True)

    entries = with_defaults(source(), method="PUT", data=None)
    next(entries)
    entries.close()
    assert closed
