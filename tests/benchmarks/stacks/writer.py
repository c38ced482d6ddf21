"""The least that a program must do to keep what it fetched in SQLite: rows and compressed bodies, in batches.

The columns are those that Trawl keeps. There is no plan, no lease, no check whether a result is there already, and
nothing to resume from.
"""

from __future__ import annotations

import hashlib
import json
import queue
import sqlite3
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

BATCH = 500

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE body (id INTEGER PRIMARY KEY, sha256 BLOB UNIQUE, size INTEGER, encoding TEXT, content BLOB);
CREATE TABLE result (
    id INTEGER PRIMARY KEY, url TEXT, host TEXT, status TEXT, http_status INTEGER, attempts INTEGER,
    started_at INTEGER, elapsed_us INTEGER, bytes INTEGER, content_type TEXT, etag TEXT, last_modified TEXT,
    headers TEXT, body INTEGER REFERENCES body
);
"""
_BODY = "INSERT INTO body (sha256, size, encoding, content) VALUES (?, ?, 'zlib', ?) ON CONFLICT DO NOTHING"
_RESULT = """
INSERT INTO result (url, host, status, http_status, attempts, started_at, elapsed_us, bytes, content_type, etag,
                    last_modified, headers, body)
VALUES (?, ?, 'succeeded', ?, 1, ?, ?, ?, ?, ?, ?, ?, (SELECT id FROM body WHERE sha256 = ?))
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One answer; ``started`` is seconds since the epoch, ``elapsed`` seconds."""

    url: str
    host: str
    http_status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    started: float
    elapsed: float


class RowStore:
    """A new database ``raw.sqlite3`` in a folder; belongs to the thread that opens it."""

    def __init__(self, directory: str) -> None:
        self._connection = sqlite3.connect(Path(directory) / "raw.sqlite3", isolation_level=None)
        self._connection.executescript(_SCHEMA)

    def save(self, rows: Sequence[Row]) -> None:
        bodies, results = [], []
        for row in rows:
            sha256 = hashlib.sha256(row.body).digest()
            bodies.append((sha256, len(row.body), zlib.compress(row.body, 3)))
            names = {name.lower(): value for name, value in row.headers}
            told = [names.get(name, "") for name in ("content-type", "etag", "last-modified")]
            figures = [row.http_status, int(row.started * 1000), round(row.elapsed * 1e6), len(row.body)]
            results.append((row.url, row.host, *figures, *told, json.dumps(row.headers), sha256))
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(_BODY, bodies)
        self._connection.executemany(_RESULT, results)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


class RawWriter:
    """A thread that saves batches of rows while the next are fetched; all are committed when the block is left."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._rows: list[Row] = []
        self._batches: queue.SimpleQueue[list[Row]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._save)
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._batches.put(self._rows)
        self._batches.put([])
        self._thread.join()
        if self._error is not None:
            raise self._error

    def add(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) == BATCH:
            self._batches.put(self._rows)
            self._rows = []

    def _save(self) -> None:
        try:
            store = RowStore(self._directory)
            while rows := self._batches.get():
                store.save(rows)
            store.close()
        except Exception as exc:
            self._error = exc
