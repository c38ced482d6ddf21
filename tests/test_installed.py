"""The app in a stranger's project: installed from the wheel, with settings as Django makes them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fetcher.demo.origin import Origin
from tests.support.processes import ROOT

_URLS = """
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("fetched/", include("jobs.urls")),
    path("fetched/", include("fetcher.api.urls")),
]
"""
_READ = """
import json
from django.contrib.auth.models import User
from django.test import Client
import fetcher

client = Client(SERVER_NAME="localhost")
anonymous_jobs = client.get("/fetched/api/v1/jobs/").status_code
anonymous = client.get("/fetched/api/v1/runs/1/results/").status_code
client.force_login(User.objects.create_superuser("boss"))
results = client.get("/fetched/api/v1/runs/1/results/").json()["items"]
body = client.get(results[0]["body_url"])
admin = client.get(f"/admin/fetcher/result/{results[0]['id']}/change/")
print(json.dumps({
    "fetcher": fetcher.__file__, "anonymous": anonymous, "anonymous_jobs": anonymous_jobs,
    "statuses": sorted(item["status"] for item in results),
    "body": body.status_code, "admin": admin.status_code,
}))
"""


@dataclass(frozen=True)
class Project:
    """A folder with a ``manage.py``, and a folder with what was installed; nothing of the checkout."""

    directory: Path
    site: Path

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FETCHER_", "DJANGO_", "DATABASE_", "PYTHONPATH", "MEDIA_"))
        }
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.directory,
            env={**kept, "PYTHONPATH": str(self.site)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


def run(*command: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of a stranger who followed the README."""
    base = tmp_path_factory.mktemp("stranger")
    site, directory = base / "site", base / "shop"
    run("-m", "hatchling", "build", "--target", "wheel", "--directory", base)
    (wheel,) = base.glob("*.whl")
    run("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--disable-pip-version-check",
        "--target", site, wheel)  # fmt: skip
    directory.mkdir()
    run("-m", "django", "startproject", "shop", directory)
    settings = directory / "shop" / "settings.py"
    settings.write_text(settings.read_text() + '\nINSTALLED_APPS += ["django_q", "fetcher", "jobs"]\n')
    (directory / "shop" / "urls.py").write_text(_URLS)
    return Project(directory, site)


def test_the_wheel_holds_the_apps_and_no_settings(project: Project) -> None:
    names = {path.name for path in project.site.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"fetcher", "jobs"}
    assert (project.site / "fetcher" / "templates" / "fetcher" / "admin" / "change_list.html").exists()
    assert (project.site / "fetcher" / "static" / "fetcher" / "admin.css").exists()


def test_a_new_project_fetches_saves_and_serves(project: Project, threaded_origin: Origin) -> None:
    checked = project.manage("check")
    assert checked.returncode == 0, checked.stderr
    assert set(re.findall(r"\(\w+\.[A-Z]\d+\)", checked.stderr)) == {"(fetcher.I001)"}  # what requests go through
    assert project.manage("makemigrations", "--check", "--dry-run").returncode == 0
    migrated = project.manage("migrate")
    assert migrated.returncode == 0, migrated.stderr

    urls = [threaded_origin.url(path) for path in ("/bytes/1000", "/bytes/2000", "/status/404")]
    fetched = project.manage("fetch_urls", "--progress", "plain", "--allow-network", "127.0.0.0/8", *urls)
    assert fetched.returncode == 3, fetched.stderr
    assert "Traceback" not in fetched.stderr

    read = project.manage("shell", "-c", _READ)
    assert read.returncode == 0, read.stderr
    found = json.loads(read.stdout.splitlines()[-1])
    assert Path(found.pop("fetcher")).is_relative_to(project.site)
    assert found == {
        "anonymous": 401,
        "anonymous_jobs": 401,
        "statuses": ["failed", "succeeded", "succeeded"],
        "body": 200,
        "admin": 200,
    }


def test_check_deploy_names_what_its_database_lacks(project: Project) -> None:
    said = project.manage("check", "--deploy", "--tag", "fetcher").stderr
    for name in ("fetcher.W002", "fetcher.W003", "fetcher.W006"):
        assert name in said
