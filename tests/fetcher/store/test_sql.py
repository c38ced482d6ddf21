"""Rows by the hundred: the same on each kind of database."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from fetcher.models import Body, HostPause, Lane, Run, Target
from fetcher.store.sql import add_to_rows, for_database, insert_new, insert_rows, keep_rows, rows_among
from tests.support.stored import plan

pytestmark = pytest.mark.django_db

BODY = ("sha256", "size", "encoding", "content", "file")


def bodies(*numbers: int) -> list[tuple[object, ...]]:
    return [(b"%032d" % number, number, "", b"\x00\xff%d" % number, "") for number in numbers]


class TestInsertRows:
    def test_keeps_every_kind_of_value(self):
        headers = for_database(Target, "headers", [["X-Ä", "\U0001f600"], ["X", None]])
        insert_rows(
            Target,
            ("fingerprint", "method", "url", "host", "headers", "body"),
            [
                (b"1" * 16, "GET", "http://ä/\t\\N\n'\"", "ä:80", headers, b"\x00\\x"),
                (b"2" * 16, "GET", "u", "h", None, None),
            ],
        )
        first, second = Target.objects.order_by("fingerprint")
        assert (first.url, first.headers, bytes(first.body)) == (
            "http://ä/\t\\N\n'\"",
            [["X-Ä", "\U0001f600"], ["X", None]],
            b"\x00\\x",
        )
        assert (second.headers, second.body) == (None, None)

    def test_keeps_dates(self):
        moment = Run.objects.create().created_at
        prepared = for_database(HostPause, "until", moment)
        insert_rows(HostPause, ("host", "told_at", "until"), [("a:80", prepared, prepared)])
        assert HostPause.objects.get().until == moment

    @pytest.mark.parametrize("skip", [False, True])
    def test_of_none_asks_nothing(self, skip):
        with CaptureQueriesContext(connection) as asked:
            insert_rows(Body, BODY, iter(()), skip_conflicts=skip)
        assert not asked.captured_queries

    def test_that_are_there_already_is_the_databases_error(self):
        insert_rows(Body, BODY, bodies(1))
        with pytest.raises(IntegrityError), transaction.atomic():
            insert_rows(Body, BODY, bodies(2, 1))
        assert list(Body.objects.values_list("size", flat=True)) == [1]

    def test_leaves_out_what_is_there_already_where_it_is_asked_to(self):
        insert_rows(Body, BODY, bodies(1))
        insert_rows(Body, BODY, [*bodies(2, 3, 2), (b"%032d" % 1, 99, "", None, "")], skip_conflicts=True)
        assert sorted(Body.objects.values_list("size", flat=True)) == [1, 2, 3]


class TestInsertNew:
    def test_gives_the_ids_of_what_it_inserts(self):
        insert_rows(Body, BODY, bodies(1))
        with transaction.atomic():
            ids = insert_new(Body, BODY, bodies(3, 2))

        assert ids == {bytes(sha): pk for sha, pk in Body.objects.exclude(size=1).values_list("sha256", "id")}
        assert len(ids) == 2

    def test_gives_no_id_again_that_a_row_had_which_is_gone(self):
        with transaction.atomic():
            [gone] = insert_new(Body, BODY, bodies(1)).values()
            Body.objects.all().delete()
            [new] = insert_new(Body, BODY, bodies(2)).values()

        assert new > gone

    def test_goes_on_after_rows_that_the_database_numbered_and_before_them(self):
        with transaction.atomic():
            [first] = insert_new(Body, BODY, bodies(1)).values()
            insert_rows(Body, BODY, bodies(2))
            [third] = insert_new(Body, BODY, bodies(3)).values()

        assert list(Body.objects.order_by("id").values_list("id", flat=True)) == [first, first + 1, third]

    def test_of_none_asks_nothing(self):
        with CaptureQueriesContext(connection) as asked:
            assert insert_new(Body, BODY, []) == {}
        assert not asked.captured_queries

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
    def test_has_no_id_for_what_was_there_already(self):
        insert_rows(Body, BODY, bodies(1))

        assert set(insert_new(Body, BODY, bodies(1, 2))) == {b"%032d" % 2}


class TestRowsAmong:
    def test_finds_rows_by_more_keys_than_a_statement_takes(self):
        insert_rows(Body, BODY, bodies(*range(1200)))
        keys = [b"%032d" % number for number in range(100, 2000)]
        found = rows_among("SELECT size FROM fetcher_body WHERE sha256 {among} AND size <> %s", keys, 1000)
        assert {size for (size,) in found} == set(range(100, 1200)) - {1000}

    def test_finds_none_without_keys(self):
        assert rows_among("SELECT id FROM fetcher_body WHERE id {among}", []) == []

    def test_keeps_those_that_exist(self):
        insert_rows(Body, BODY, bodies(1, 2))
        one, two = sorted(Body.objects.values_list("id", flat=True))
        with transaction.atomic():
            assert keep_rows(Body, [two, two + 1, one]) == {one, two}


class TestAddToRows:
    def test_adds_to_the_rows_that_are_named(self):
        plan(*(f"http://h{number}.example/" for number in range(20)))
        first, second, third, *rest = Lane.objects.order_by("id").values_list("id", flat=True)
        add_to_rows(Lane, ("failed", "bytes"), [(first, 1, 10), (third, 0, 2**40)])
        add_to_rows(Lane, ("failed", "bytes"), [(first, 2, 5), (second, 1, 0)])
        counters = dict(zip([first, second, third], [(3, 15), (1, 0), (0, 2**40)], strict=True))
        found = {pk: (failed, size) for pk, failed, size in Lane.objects.values_list("id", "failed", "bytes")}
        assert found == counters | dict.fromkeys(rest, (0, 0))

    def test_to_none_asks_nothing(self):
        with CaptureQueriesContext(connection) as asked:
            add_to_rows(Lane, ("failed",), [])
        assert not asked.captured_queries
