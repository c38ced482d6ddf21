"""Whether a PostgreSQL server answers: ``python -m tests.support.postgres postgres://…`` exits 0 or says why not."""

from __future__ import annotations

import sys

import psycopg


def reason_against(url: str) -> str | None:
    """Return why a server cannot be used for tests, or None where it can."""
    try:
        psycopg.connect(url, connect_timeout=3).close()
    except psycopg.Error as exc:
        return str(exc).strip().splitlines()[0]
    return None


if __name__ == "__main__":
    reason = reason_against(sys.argv[1])
    if reason is not None:
        print(f"The tests on PostgreSQL are skipped: {reason}. Set TEST_POSTGRES_URL to a server.", file=sys.stderr)
        sys.exit(1)
