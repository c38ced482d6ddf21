"""Databases for runs to begin with."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import psycopg
import pytest

from tests.benchmarks.peers.databases import FILE, Databases
from tests.benchmarks.peers.measure import SERVER
from tests.benchmarks.stacks.measuring import Unavailable
from tests.support.postgres import reason_against
from tests.support.processes import unavailable

COUNT = "SELECT count(*) FROM fetcher_result"


def sqlite_results(path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(COUNT).fetchone()[0]


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    with Databases(tmp_path_factory.mktemp("databases"), SERVER, 500) as made:
        yield made


@pytest.mark.parametrize(("filled", "count"), [(False, 0), (True, 500)])
def test_sqlite_begins_with_as_many_results_as_asked_for(databases, tmp_path, filled, count):
    databases.new_sqlite(tmp_path, filled=filled)

    assert sqlite_results(tmp_path / FILE) == count


def test_a_copy_leaves_the_next_as_it_was(databases, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    databases.new_sqlite(tmp_path / "first", filled=True)
    with closing(sqlite3.connect(tmp_path / "first" / FILE)) as connection, connection:
        connection.execute("DELETE FROM fetcher_result")
    databases.new_sqlite(tmp_path / "second", filled=True)

    assert sqlite_results(tmp_path / "second" / FILE) == 500


def test_without_a_server_there_is_a_reason(tmp_path):
    with Databases(tmp_path, "postgres://nobody@127.0.0.1:1/none", 0) as databases, pytest.raises(Unavailable):
        databases.new_postgres()


@pytest.fixture
def postgres(databases) -> str:
    """The URL of a database with results."""
    if reason := reason_against(SERVER):
        unavailable(reason)
    return databases.new_postgres(filled=True)


def test_postgres_begins_with_as_many_results_as_asked_for(postgres):
    with psycopg.connect(postgres) as connection:
        assert connection.execute(COUNT).fetchone() == (500,)


def test_what_is_added_to_a_filled_database_gets_an_id_of_its_own(postgres):
    statement = "INSERT INTO fetcher_body (sha256, size, encoding, file) VALUES ('new', 1, '', '') RETURNING id"
    with psycopg.connect(postgres) as connection:
        assert connection.execute(statement).fetchone() == (501,)


def test_databases_on_a_server_are_gone_in_the_end(postgres, tmp_path):
    with Databases(tmp_path, SERVER, 0) as databases:
        url = databases.new_postgres()

    assert "does not exist" in str(reason_against(url))
