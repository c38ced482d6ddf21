"""django-q2's own admin pages show the queue and run nothing."""

from __future__ import annotations

import json
import os
from itertools import permutations
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django_q.models import Failure, OrmQ, Schedule, Success, Task
from django_q.signing import SignedPackage

from tests.support.forking import fork_each

MODELS = [model for model in admin.site._registry if model._meta.app_label == "django_q"]
RUNS_A_COMMAND: dict[str, Any] = {"func": "os.system", "args": ("touch /tmp/pwned",)}
FORM = {
    "name": "evil", "func": "os.system", "args": "'touch /tmp/pwned'", "schedule_type": "O", "repeats": "1",
    "next_run_0": "2026-01-01", "next_run_1": "00:00:00", "key": "trawl", "lock_0": "2026-01-01", "lock_1": "00:00:00",
    "post": "yes", "_save": "Save",
}  # fmt: skip


@pytest.fixture
def rows(db: None) -> dict[Any, Any]:
    """One row of each model, which would run a command."""
    Schedule.objects.all().delete()
    now = timezone.now()
    task = {**RUNS_A_COMMAND, "started": now, "stopped": now, "kwargs": {}, "result": "text"}
    Task.objects.create(id="a" * 32, name="well", success=True, **task)
    Task.objects.create(id="b" * 32, name="badly", success=False, **task)
    payload = SignedPackage.dumps({"id": "c" * 32, "name": "queued", "kwargs": {}, **RUNS_A_COMMAND})
    return {
        Schedule: Schedule.objects.create(name="mine", func="os.system", args="'true'", next_run=now),
        Success: Success.objects.get(),
        Failure: Failure.objects.get(),
        OrmQ: OrmQ.objects.create(key="trawl", payload=payload, lock=now),
    }


@pytest.fixture
def client_with_every_right(db: None) -> Client:
    client = Client(raise_request_exception=True)
    client.force_login(User.objects.create_superuser("boss"))
    return client


def everything() -> list[Any]:
    return [list(model.objects.order_by("pk").values_list()) for model in (Schedule, Task, OrmQ)]


def urls_of(model: Any, row: Any) -> list[str]:
    """Return every URL that the admin of a model has, for one of its rows."""
    found = []
    for pattern in admin.site._registry[model].urls:
        for arguments in ((), (row.pk,)):
            try:
                found.append(reverse(f"admin:{pattern.name}", args=arguments))
            except NoReverseMatch:
                continue
    return found


def test_queue_admin_covers_all_models_of_the_queue() -> None:
    assert set(MODELS) == {Schedule, Success, Failure, OrmQ}


@pytest.mark.parametrize("model", MODELS)
def test_queue_admin_changes_nothing_at_any_url(
    rows: dict[Any, Any], client_with_every_right: Client, model: Any
) -> None:
    before, row = everything(), rows[model]
    urls = urls_of(model, row)
    assert len(urls) >= 5
    for url in urls:
        answers = [client_with_every_right.get(url), client_with_every_right.post(url, FORM)]
        for action in ("resubmit_task", "delete_selected"):
            form = {"action": action, "_selected_action": [row.pk], "index": "0", "post": "yes"}
            answers.append(client_with_every_right.post(url, form))
        assert all(answer.status_code in (200, 302, 403) for answer in answers), url
        assert everything() == before, url


@pytest.mark.parametrize("model", MODELS)
def test_queue_admin_shows_lists_and_rows(rows: dict[Any, Any], client_with_every_right: Client, model: Any) -> None:
    base = f"admin:django_q_{model._meta.model_name}"
    listed = client_with_every_right.get(reverse(f"{base}_changelist")).content.decode()
    shown = client_with_every_right.get(reverse(f"{base}_change", args=[rows[model].pk])).content.decode()
    assert "os.system" in listed
    assert "os.system" in shown
    assert "resubmit" not in listed.lower()
    assert 'name="_save"' not in shown


def test_permission_to_add_schedules_adds_none(rows: dict[Any, Any]) -> None:
    user = User.objects.create_user("scheduler", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="django_q"))
    client = Client()
    client.force_login(user)
    assert client.post(reverse("admin:django_q_schedule_add"), FORM).status_code == 403
    assert Schedule.objects.filter(name="evil").count() == 0


_REGISTRY = """
import json, sys
import django
from django.conf import settings

apps = ["django.contrib." + name for name in ("admin", "auth", "contenttypes", "sessions", "messages")]
settings.configure(
    SECRET_KEY="x", INSTALLED_APPS=[*apps, *sys.argv[1:]], Q_CLUSTER={"orm": "default"}, USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()
from django.contrib import admin
print(json.dumps({
    model.__name__: [page.has_add_permission(None), page.has_change_permission(None), page.has_delete_permission(None)]
    for model, page in admin.site._registry.items() if model._meta.app_label == "django_q"
}))
"""


def test_queue_admin_is_read_only_whatever_the_order_of_apps() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    orders = list(permutations(["django_q", "fetcher", "jobs"]))
    for order, found in zip(orders, fork_each(_REGISTRY, [(environment, order) for order in orders]), strict=True):
        assert found.returncode == 0, found.stderr
        read_only = dict.fromkeys(("Schedule", "Success", "Failure", "OrmQ"), [False] * 3)
        assert json.loads(found.stdout) == read_only, order
