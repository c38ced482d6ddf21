"""The admin page of jobs: to look at, to pause and to resume."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from fetcher.engine.config import FetchConfig
from jobs.models import Job
from jobs.schedules import Kind, Schedule
from tests.rows import make_run
from tests.support.jobs import make_job

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
