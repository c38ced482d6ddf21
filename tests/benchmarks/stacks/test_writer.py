"""The raw writer of the peers."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing

import pytest

from tests.benchmarks.stacks.writer import BATCH, RawWriter, Row


def row(number: int, body: bytes) -> Row:
    return Row(f"http://a.example/{number}", "a.example", 200, [("ETag", '"1"')], body, 1700000000.0, 0.25)


def read(directory, query: str):
    with closing(sqlite3.connect(directory / "raw.sqlite3")) as connection:
        return connection.execute(query).fetchall()


def test_whole_batches_and_what_is_left_are_committed(tmp_path):
    with RawWriter(str(tmp_path)) as writer:
        for number in range(BATCH + 1):
            writer.add(row(number, b"body %d" % number))

    assert read(tmp_path, "SELECT count(*), count(body) FROM result") == [(BATCH + 1, BATCH + 1)]


def test_a_body_is_kept_once_and_compressed(tmp_path):
    with RawWriter(str(tmp_path)) as writer:
        writer.add(row(1, b"the same" * 100))
        writer.add(row(2, b"the same" * 100))

    [(size, content)] = read(tmp_path, "SELECT size, content FROM body")
    assert (size, zlib.decompress(content)) == (800, b"the same" * 100)


def test_what_goes_wrong_in_the_thread_is_raised(tmp_path):
    (tmp_path / "raw.sqlite3").write_text("no database")

    with pytest.raises(sqlite3.DatabaseError), RawWriter(str(tmp_path)) as writer:
        writer.add(row(1, b"body"))
