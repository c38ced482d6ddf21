"""``POST runs/``: what is planned, what is answered, and who may."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User

from fetcher.models import RejectedLine, Run, RunState
from fetcher.store import runs
from tests.support import dispatching
from tests.support.dispatching import Noting
from tests.support.stored import open_targets

RUNS = "/api/v1/runs/"
URL = "https://a.example/"


@pytest.fixture(autouse=True)
def cluster(settings):
    settings.FETCHER_DISPATCHER = dispatching.PATH
    Noting.reset()
    return Noting


class TestStarting:
    def test_plans_the_list_wakes_the_cluster_and_answers_with_the_run(self, api):
        answer = api.post(RUNS, {"urls": [URL, f"{URL}2", URL], "label": "mine", "options": {"per_host": 2}})
        run = Run.objects.get()
        assert (answer.status, answer.headers["Location"]) == (202, f"{RUNS}{run.pk}/")
        item = answer.json()["run"]
        assert (item["id"], item["label"], item["state"], item["total"]) == (run.pk, "mine", "pending", 2)
        assert (item["duplicates"], item["options"]["per_host"]) == (1, 2)
        assert Noting.woken == [run.pk]
        assert [target.url for target in open_targets(run.pk)] == [URL, f"{URL}2"]
        assert api.get(answer.headers["Location"]).json()["total"] == 2

    def test_lists_what_is_rejected_and_keeps_it(self, api):
        answer = api.post(RUNS, {"urls": ["nope", URL, "https://me:hunter2@a.example/"]})
        assert answer.json()["rejected"] == [
            {"index": 0, "value": "nope", "reason": "is not a URL"},
            {
                "index": 2,
                "value": "https://***@a.example/",
                "reason": "contains a user name or password; send them in an Authorization header instead",
            },
        ]
        assert list(RejectedLine.objects.values_list("source", "line")) == [("request", 1), ("request", 3)]
        assert b"hunter2" not in answer.body

    def test_of_nothing_but_rejected_lines_is_over_at_once(self, api):
        answer = api.post(RUNS, {"urls": ["nope"]})
        assert (answer.status, answer.json()["run"]["state"]) == (202, "completed")
        assert Noting.woken == []

    def test_stores_secrets_sealed_and_shows_none(self, api):
        target = {"url": URL, "headers": {"Cookie": "hunter2"}}
        answer = api.post(RUNS, {"urls": [target], "options": {"headers": {"X-Api-Key": "hunter3"}}})
        assert answer.json()["run"]["options"]["headers"] == [["X-Api-Key", "***"]]
        assert b"hunter" not in answer.body
        run = Run.objects.get()
        assert runs.load_config(run).headers == (("X-Api-Key", "hunter3"),)

    def test_can_be_fetched(self, api):
        run = api.post(RUNS, {"urls": [URL]}).json()["run"]["id"]
        dispatching.drain(run)
        assert Run.objects.get().state == RunState.COMPLETED


class TestProblems:
    def test_a_body_that_is_too_long_is_a_413(self, api, settings):
        settings.FETCHER_API_MAX_BYTES = 100
        answer = api.post(RUNS, {"urls": [URL], "label": "x" * 100})
        assert answer.status == 413
        assert "longer than 100 bytes" in answer.detail

    def test_a_member_that_cannot_be_used_is_named(self, api):
        answer = api.post(RUNS, {"urls": [URL], "options": {"per_host": 0}})
        assert (answer.status, answer.json()["pointer"]) == (400, "#/options/per_host")

    def test_what_the_cluster_cannot_do_is_named_and_nothing_is_saved(self, api):
        answer = api.post(RUNS, {"urls": [URL], "options": {"deadline": 501}})
        assert (answer.status, answer.json()["pointer"]) == (400, "#/options/deadline")
        assert "must be at most 500 on the cluster" in answer.detail
        assert not Run.objects.exists()

    def test_a_queue_that_cannot_be_reached_is_a_503_and_nothing_is_saved(self, api, cluster):
        cluster.refusal = "the queue cannot be reached: Redis at 127.0.0.1:1"
        answer = api.post(RUNS, {"urls": [URL]})
        assert (answer.status, answer.detail) == (503, "The queue cannot be reached: Redis at 127.0.0.1:1.")
        assert not Run.objects.exists()

    def test_one_that_goes_away_later_leaves_the_run_with_the_cluster(self, api, cluster):
        cluster.refusal, cluster.late = "the queue cannot be reached", True
        assert api.post(RUNS, {"urls": [URL]}).status == 202
        assert Run.objects.of_cluster().count() == 1

    def test_without_a_cluster_is_a_503(self, api, settings):
        settings.FETCHER_DISPATCHER = ""
        answer = api.post(RUNS, {"urls": [URL]})
        assert (answer.status, answer.detail) == (503, "There is no cluster: FETCHER_DISPATCHER is not set.")

    def test_another_media_type_is_a_415(self, api):
        answer = api.post(RUNS, b"urls=x", media_type="application/x-www-form-urlencoded")
        assert (answer.status, answer.detail) == (415, "Send JSON, with Content-Type: application/json.")


class TestAccess:
    """What is refused is refused before the body is looked at."""

    @pytest.fixture
    def user(self, settings, transactional_db) -> User:
        settings.FETCHER_API_ACCESS = "login"
        return User.objects.create_user("reader")

    def allow(self, user: User) -> None:
        user.user_permissions.add(Permission.objects.get(codename="add_run", content_type__app_label="fetcher"))

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
        ],
        ids=["origin", "no-origin", "cross-site", "same-site"],
    )
    def test_another_sites_page_may_not(self, api, headers):
        answer = api.post(RUNS, {"urls": [URL]}, **headers)
        assert answer.status == 403
        assert "Another site's page" in answer.detail
        assert not Run.objects.exists()

    def test_another_machine_may_not(self, api):
        assert api.post(RUNS, {"urls": [URL]}, peer="192.0.2.1").status == 403

    def test_without_a_login_nobody_may(self, api, user):
        assert api.post(RUNS, {"urls": [URL]}).status == 401

    def test_a_login_without_the_permission_may_not(self, api, user):
        api.log_in(user)
        answer = api.post(RUNS, {"urls": [URL]}, X_CSRFToken=api.csrf_token())
        assert answer.status == 403
        assert "fetcher.add_run" in answer.detail

    @pytest.mark.parametrize("token", ["", "b" * 32])
    def test_a_session_without_its_csrf_token_may_not(self, api, user, token):
        self.allow(user)
        api.log_in(user)
        api.csrf_token()
        answer = api.post(RUNS, {"urls": [URL]}, **({"X_CSRFToken": token} if token else {}))
        assert answer.status == 403
        assert "CSRF" in answer.detail
        assert not Run.objects.exists()

    def test_a_session_with_permission_and_token_may(self, api, user):
        self.allow(user)
        api.log_in(user)
        assert api.post(RUNS, {"urls": [URL]}, X_CSRFToken=api.csrf_token()).status == 202
