"""A target that ends every process which requests it: it is found, and it costs nobody else a result."""

from __future__ import annotations

import signal
import subprocess

import pytest

from fetcher.models import Lane, Result, Run, RunState
from tests.crash.points import URL
from tests.support.commands import start

ALLOW = ("--allow-network", "127.0.0.1/32")
DEATHS = 8
"""At most: three until the lane is a suspect, two for the target, and some before it is its turn."""

pytestmark = pytest.mark.django_db(transaction=True)


def run(*arguments: str) -> int:
    """Run the command once; returns its exit code."""
    env = {"DJANGO_SETTINGS_MODULE": "tests.crash.settings", URL: "/poison"}
    with start("fetch_urls", *arguments, "--progress", "none", env=env, stdin=subprocess.DEVNULL) as process:
        process.communicate(timeout=60)
    return process.returncode


@pytest.mark.parametrize("place", [0, 30], ids=["at the beginning", "in the middle"])
def test_it_is_given_up_after_some_deaths_and_everything_else_is_fetched(tmp_path, threaded_origin, place):
    urls = [threaded_origin.url(f"/ok/{number}", number % 3) for number in range(60)]
    urls.insert(place, threaded_origin.url("/ok/poison"))
    (tmp_path / "urls.txt").write_text("\n".join(urls))

    codes = [run("--file", str(tmp_path / "urls.txt"), *ALLOW)]
    while codes[-1] == -signal.SIGKILL and len(codes) <= DEATHS:
        codes.append(run("--resume"))

    assert codes[-1] == 3, codes
    assert codes.count(-signal.SIGKILL) >= 5
    poison = Result.objects.get(target__url__endswith="/ok/poison")
    assert (poison.status, poison.error_kind) == ("failed", "internal")
    assert "2 processes ended while it was being fetched" in poison.error_detail
    assert Result.objects.filter(status="succeeded").count() == 60
    assert Run.objects.get().state == RunState.COMPLETED
    assert not Lane.objects.exclude(suspect=None).exists()
