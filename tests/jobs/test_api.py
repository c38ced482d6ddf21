"""What the addresses of jobs answer, over ASGI and WSGI alike."""

from __future__ import annotations

import pytest
from django_q.models import Schedule as Alarm

from fetcher.engine.config import FetchConfig
from fetcher.models import Run
from jobs import timers
from jobs.models import Firing
from jobs.schedules import Kind, Schedule
from jobs.store import pause_or_resume
from tests.rows import NOON, make_run
from tests.support import dispatching
from tests.support.dispatching import Noting
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
        assert found["due_at"] == found["next_times"][0]
        assert [item["id"] for item in found["runs"]] == [run.pk]
        assert found["retention"] == {"runs": 50, "days": 30}

    def test_has_no_next_times_while_it_is_paused_or_without_a_schedule(self, api):
        make_job("paused", schedule=DAILY)
        pause_or_resume("paused", enabled=False)
        make_job("idle")
        paused, idle = (api.get(f"{JOBS}{name}/").json() for name in ("paused", "idle"))
        assert (paused["enabled"], paused["next_times"], paused["due_at"]) == (False, [], None)
        assert (idle["schedule"], idle["next_times"]) == (None, [])

    def test_tells_what_became_of_the_last_firings_the_newest_first(self, api):
        job = make_job("news", schedule=DAILY)
        for day, values in ((1, {"state": "ran", "run": 7}), (2, {"state": "skipped", "reason": "run 7 goes on"})):
            Firing.objects.create(job=job, intended_at=NOON.replace(day=day), at=NOON, **values)
        found = api.get(f"{JOBS}news/").json()
        assert found["firings"] == [
            {
                "intended_at": f"2026-03-0{day}T12:00:00.123Z", "at": "2026-03-01T12:00:00.123Z", "state": state,
                "run": run, "reason": reason,
            }
            for day, state, run, reason in ((2, "skipped", None, "run 7 goes on"), (1, "ran", 7, None))
        ]  # fmt: skip
        for day in range(3, 20):
            Firing.objects.create(job=job, intended_at=NOON.replace(day=day), state="ran")
        firings = api.get(f"{JOBS}news/").json()["firings"]
        assert (len(firings), firings[0]["intended_at"][:10]) == (10, "2026-03-19")

    def test_tells_that_nobody_came(self, api):
        job = make_job("news", schedule=Schedule(kind=Kind.EVERY, every=15))
        assert api.get(f"{JOBS}news/").json()["overdue_since"] is None
        args = str((job.pk, NOON.replace(minute=15, second=0, microsecond=0).isoformat()))
        Alarm.objects.filter(name=timers.name_of(job.pk)).update(args=args, next_run=NOON)
        assert api.get(f"{JOBS}news/").json()["overdue_since"] == "2026-03-01T12:15:00.000Z"

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


class TestRunning:
    @pytest.fixture(autouse=True)
    def cluster(self, settings):
        settings.FETCHER_DISPATCHER = dispatching.PATH
        Noting.reset()
        return Noting

    @pytest.mark.parametrize("body", [b"", b"{}\n"], ids=["none", "empty"])
    def test_hands_the_jobs_list_over_also_where_it_is_paused(self, api, body):
        make_job("news", "http://a/1", "http://b/2", enabled=False)
        answer = api.post("/api/v1/jobs/news/runs/", body)
        run = Run.objects.get()
        assert (answer.status, answer.headers["Location"]) == (202, f"/api/v1/runs/{run.pk}/")
        assert answer.json()["rejected"] == []
        item = answer.json()["run"]
        assert (item["job"], item["total"], item["state"]) == ("news", 2, "pending")
        assert Noting.woken == [run.pk]

    def test_that_is_in_progress_is_a_409_that_names_it(self, api):
        make_job("news")
        api.post("/api/v1/jobs/news/runs/")
        answer = api.post("/api/v1/jobs/news/runs/")
        run = Run.objects.get()
        assert (answer.status, answer.json()["run"]) == (409, run.pk)
        assert answer.detail == f"Run {run.pk} of job news is in progress; wait for its end, or cancel it."

    def test_of_no_job_is_a_404(self, api):
        assert api.post("/api/v1/jobs/none/runs/").status == 404

    def test_with_options_of_its_own_is_a_400(self, api):
        make_job("news")
        answer = api.post("/api/v1/jobs/news/runs/", {"options": {}})
        assert (answer.status, answer.json()["pointer"]) == (400, "#")
        assert not Run.objects.exists()

    def test_is_not_for_another_sites_page(self, api):
        make_job("news")
        assert api.post("/api/v1/jobs/news/runs/", Origin="https://evil.example").status == 403

    def test_is_the_only_thing_to_do_there(self, api):
        answer = api.get("/api/v1/jobs/news/runs/")
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
