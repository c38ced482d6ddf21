"""The admin page of jobs: to look at, to pause and to resume."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.http import HttpResponse
from django.test import Client
from django_q.models import Schedule as Alarm

from fetcher.engine.config import FetchConfig
from fetcher.engine.references import EnvReference
from fetcher.models import Run
from jobs import firing, timers
from jobs.models import Firing, Job
from jobs.schedules import Kind, Schedule
from tests.rows import NOON, make_run
from tests.support.jobs import make_job
from tests.support.queue import messages

LIST = "/admin/jobs/job/"


@pytest.fixture
def job(db: None) -> Job:
    config = FetchConfig(headers=(("Authorization", "Bearer s3cret"),))
    schedule = Schedule(kind=Kind.EVERY, every=15)
    return make_job("news", "http://a/1", "no url", config=config, schedule=schedule)


def logged_in(*permissions: str, superuser: bool = False) -> Client:
    user = User.objects.create_user("somebody", is_staff=True, is_superuser=superuser)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_the_pages_tell_all_but_secrets(job):
    make_run(job_id=job.pk, job_name=job.name)
    client = logged_in(superuser=True)
    for path in (LIST, f"{LIST}{job.pk}/change/"):
        answer = client.get(path)
        page = answer.content.decode()
        assert answer.status_code == 200
        assert "every 15 minutes" in page
        assert "s3cret" not in page
    assert "is not a URL" in page or "white space" in page


@pytest.mark.parametrize("term", ["news", "id"])
def test_search_finds_by_name_and_number(job, term):
    make_job("other")
    found = logged_in(superuser=True).get(f"{LIST}?q={job.pk if term == 'id' else term}").content.decode()
    assert ("news" in found, ">other<" in found) == (True, False)


def test_the_page_tells_what_became_of_the_last_firings(job):
    Firing.objects.create(job=job, intended_at=NOON, state="failed", reason="the variable TOKEN is not set")
    page = logged_in(superuser=True).get(f"{LIST}{job.pk}/change/").content.decode()
    assert all(text in page for text in ("trawl-failed", "the variable TOKEN is not set"))


def told(answer: HttpResponse) -> list[str]:
    return [str(message) for message in answer.context["messages"]]


@pytest.mark.django_db(transaction=True)
class TestRunNow:
    def chosen(self, *jobs: Job, client: Client | None = None) -> list[str]:
        client = client or logged_in(superuser=True)
        data = {"action": "run_now", "_selected_action": [job.pk for job in jobs]}
        return told(client.post(LIST, data, follow=True))

    def test_begins_a_run_of_each_on_the_cluster(self):
        jobs = [make_job("a"), make_job("b", enabled=False)]
        said = self.chosen(*jobs)
        runs = Run.objects.in_bulk()
        assert {run.job_id for run in runs.values()} == {job.pk for job in jobs}
        assert {message["args"] for message in messages("jobs.tasks.work")} == {(run,) for run in runs}
        assert all(f"/admin/fetcher/run/{run}/change/" in " ".join(said) for run in runs)

    def test_tells_which_could_not_begin_and_begins_the_rest(self):
        missing = FetchConfig(headers=(("Authorization", EnvReference("NO_SUCH_TOKEN")),))
        jobs = [make_job("busy"), make_job("lacks", config=missing), make_job("fine")]
        busy = firing.run_now(jobs[0])
        said = sorted(self.chosen(*jobs))
        assert said[0] == f"Job busy: run {busy} of job busy is in progress"
        assert said[1].startswith("Job fine: ")
        assert said[2].startswith("Job lacks: ")
        assert "NO_SUCH_TOKEN" in said[2]
        assert Run.objects.count() == 2

    def test_tells_that_the_queue_is_away(self, settings):
        settings.FETCHER_DISPATCHER = ""
        said = self.chosen(make_job("a"), make_job("b"))
        assert said == ["Nothing was begun: there is no cluster: FETCHER_DISPATCHER is not set"]

    def test_is_not_for_who_may_only_look(self):
        self.chosen(make_job("a"), client=logged_in("view_job"))
        assert not Run.objects.exists()


@pytest.mark.parametrize("page", ["schedule", "success", "failure", "ormq"])
def test_the_pages_of_the_queue_stay_usable(job, page):
    firing_alarm = Alarm.objects.get(name=timers.name_of(job.pk))
    client = logged_in(superuser=True)
    answer = client.get(f"/admin/django_q/{page}/")
    assert answer.status_code == 200
    assert ("trawl job" in answer.content.decode()) == (page == "schedule")
    assert client.get(f"/admin/django_q/schedule/{firing_alarm.pk}/change/").status_code == 200


def test_pauses_and_resumes(job):
    client = logged_in(superuser=True)
    for action, enabled in (("pause", False), ("resume", True)):
        client.post(LIST, {"action": action, "_selected_action": [job.pk]})
        job.refresh_from_db()
        assert job.enabled is enabled


def test_who_may_only_look_pauses_nothing(job):
    client = logged_in("view_job")
    assert client.get(LIST).status_code == 200
    client.post(LIST, {"action": "pause", "_selected_action": [job.pk]})
    job.refresh_from_db()
    assert job.enabled


@pytest.mark.parametrize("path", ["add/", "1/delete/"])
def test_nothing_else_can_be_changed(job, path):
    assert logged_in(superuser=True).get(f"{LIST}{path}").status_code in (302, 403)
