"""``manage.py cluster``, as an operator or a monitor calls it."""

from __future__ import annotations

import json
import signal

import pytest

from tests.jobs.test_status import healthy, make_cluster, make_message
from tests.support.commands import Called, start

__all__ = ["healthy"]
pytestmark = pytest.mark.django_db


def status(*arguments: str) -> Called:
    return Called("status", *arguments, command="cluster")


class TestStatus:
    def test_is_0_where_nothing_is_wrong(self, healthy):
        called = status()
        assert (called.code, called.err) == (0, "")
        assert called.out.splitlines()[-1] == "Nothing looks wrong."
        assert "other:1  working  2" in called.out

    def test_is_1_with_a_line_for_each_problem(self):
        make_message(150)
        called = status()
        assert called.code == 1
        assert called.out.endswith(
            "\nWrong\nno cluster works; start one with: manage.py qcluster\na message has waited for 150 s\n"
        )
        assert "1 message waiting, the oldest for 2 min 30 s" in called.out

    def test_is_one_json_document(self, healthy):
        make_cluster(machine="third", workers=4)
        found = json.loads(status("--output", "json").out)
        assert [cluster["workers"] for cluster in found["clusters"]] == [2, 4]
        assert found["problems"] == []

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            ("0", "must be a number of seconds, more than 0, not 0"),
            ("-1", "must be a number of seconds, more than 0, not -1"),
            ("nan", "must be a duration such as 500ms, 30s, 5m or 1h, not 'nan'"),
            ("soon", "must be a duration such as 500ms, 30s, 5m or 1h, not 'soon'"),
        ],
    )
    def test_refuses_what_is_no_time(self, value, reason):
        called = status("--late", value)
        assert called.code
        assert f"argument --late: {reason}" in called.err

    @pytest.mark.django_db(transaction=True)
    def test_watches_until_it_is_interrupted(self, transactional_db):
        with start("cluster", "status", "--watch") as process:
            line = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        assert "0 messages waiting" in line
        assert line.endswith("1 problem\n")
