"""What the addresses of jobs answer, over ASGI and WSGI alike."""

from __future__ import annotations

import pytest

from fetcher.engine.config import FetchConfig
from jobs.schedules import Kind, Schedule
from jobs.store import pause_or_resume
from tests.rows import make_run
from tests.support.jobs import make_job

JOBS = "/api/v1/jobs/"
DAILY = Schedule(kind=Kind.DAILY, at="06:30", time_zone="Asia/Tokyo")


class TestJobList:
    def test_has_the_newest_first_in_pages(self, api):
        for name in ("a", "b", "c"):
            make_job(name)
        first = api.get(f"{JOBS}?limit=2").json()
        second = api.get(f"{JOBS}?limit=2&cursor={first['next']}").json()
        assert [item["name"] for item in first["items"] + second["items"]] == ["c", "b", "a"]
        assert second["next"] is None

    def test_refuses_what_is_no_parameter_and_other_lists_cursors(self, api):
        make_run()
        make_run()
        cursor = api.get("/api/v1/runs/?limit=1").json()["next"]
        assert "belongs to another list" in api.get(f"{JOBS}?cursor={cursor}").detail
        assert api.get(f"{JOBS}?colour=red").status == 400


class TestJobDetail:
    def test_tells_all_but_secrets(self, api):
        config = FetchConfig(headers=(("Authorization", "Bearer hidden"),))
        job = make_job("news", "http://a/1", "http://a/1", "no url", config=config, schedule=DAILY)
        run = make_run(job_id=job.pk, job_name="news")
        make_run(job_name="news")  # of an earlier job of the name
        answer = api.get(f"{JOBS}news/")
        found = answer.json()
        assert b"hidden" not in answer.body
        assert (found["targets"], found["duplicates"], found["rejected"], found["source"]) == (1, 1, 1, "list")
        assert found["schedule"] == {
            "kind": "daily", "text": "daily at 06:30 (Asia/Tokyo)", "every_minutes": None, "at": "06:30",
            "weekday": None, "cron": None, "time_zone": "Asia/Tokyo",
        }  # fmt: skip
        assert [time[10:] for time in found["next_times"]] == ["T21:30:00.000Z"] * 3
        assert [item["id"] for item in found["runs"]] == [run.pk]
        assert found["retention"] == {"runs": 50, "days": 30}

    def test_has_no_next_times_while_it_is_paused_or_without_a_schedule(self, api):
        make_job("paused", schedule=DAILY)
        pause_or_resume("paused", enabled=False)
        make_job("idle")
        paused, idle = (api.get(f"{JOBS}{name}/").json() for name in ("paused", "idle"))
        assert (paused["enabled"], paused["next_times"]) == (False, [])
        assert (idle["schedule"], idle["next_times"]) == (None, [])

    def test_answers_304_to_its_etag(self, api):
        make_job()
        etag = api.get(f"{JOBS}news/").headers["ETag"]
        assert api.get(f"{JOBS}news/", If_None_Match=etag).status == 304

    @pytest.mark.parametrize("name", ["none", "a%00b", "%20"])
    def test_of_an_unknown_job_is_a_problem(self, api, name):
        answer = api.get(f"{JOBS}{name}/")
        assert (answer.status, "There is no job" in answer.detail) == (404, True)


def test_strangers_are_refused(api):
    assert [api.get(path, peer="203.0.113.9").status for path in (JOBS, f"{JOBS}news/")] == [403, 403]


def test_an_address_that_lacks_its_last_slash_is_sent_on(api):
    answer = api.get(JOBS.rstrip("/"))
    assert (answer.status, answer.headers["Location"]) == (301, JOBS)
