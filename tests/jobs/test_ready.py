"""What ``/readyz`` answers, over ASGI and WSGI alike."""

from __future__ import annotations

import asyncio
import threading

import httpx
import pytest
from django_q.tasks import async_task

from jobs.ready import TIMEOUT, NotReady, Part
from tests.support.processes import free_port
from tests.support.redis import redis_queue, silent_server, use_redis

READY = "/readyz"


class TestReady:
    def test_tells_the_queue_in_numbers(self, api):
        async_task("jobs.tasks.work", 1)
        answer = api.get(READY)
        checks = answer.json()["checks"]
        assert (answer.status, answer.json()["status"], answer.headers["Cache-Control"]) == (200, "ok", "no-store")
        assert (checks["queue"]["kind"], checks["queue"]["waiting"]) == ("orm", 1)
        assert 0 <= checks["queue"]["oldest_s"] < 30

    def test_asks_redis(self, api, monkeypatch):
        with redis_queue(monkeypatch):
            assert api.get(READY).json()["checks"]["queue"] == {
                "status": "ok", "kind": "redis", "waiting": 0, "oldest_s": None,
            }  # fmt: skip

    def test_needs_no_login_from_wherever_one_asks(self, api):
        assert api.get(READY, peer="203.0.113.9").status == 200


class TestNotReady:
    def test_says_which_part_and_nothing_of_where_it_is(self, api, monkeypatch):
        port = free_port()
        use_redis(monkeypatch, f"redis://user:s3cret@127.0.0.1:{port}/0")
        answer = api.get(READY)
        checks = answer.json()["checks"]
        assert (answer.status, answer.json()["status"], checks["database"]["status"]) == (503, "failed", "ok")
        assert checks["queue"] == {"status": "failed", "error": "cannot be used"}
        assert "cluster status" in answer.json()["more"]
        assert not [secret for secret in ("s3cret", str(port), "127.0.0.1") if secret in answer.body.decode()]

    @pytest.mark.parametrize("interface", ["asgi", "wsgi"])
    def test_answers_while_everything_hangs(self, interface, serve_project):
        with silent_server() as database, silent_server() as queue:
            server = serve_project(
                f"postgres://user:s3cret@127.0.0.1:{database}/name",
                interface=interface,
                environment={"REDIS_URL": f"redis://127.0.0.1:{queue}/0", "DJANGO_SETTINGS_MODULE": "settings.test"},
            )
            with httpx.Client(trust_env=False, timeout=TIMEOUT + 10) as client:
                answers = [client.get(f"{server}{READY}") for _ in range(2)]
                alive = client.get(f"{server}/healthz")
        assert [answer.status_code for answer in answers] == [503, 503]
        assert {answer.json()["checks"]["database"]["error"] for answer in answers} == {"no answer within 2 s"}
        assert alive.status_code == 200


class TestPart:
    def test_that_hangs_is_asked_once_however_many_want_to_know(self):
        release, asked = threading.Event(), []

        def hang():
            asked.append(1)
            release.wait(20)
            return {"found": 1}

        part = Part("slow", hang)

        async def check():
            first = await asyncio.gather(*(part.check(0.05) for _ in range(5)))
            again = asyncio.ensure_future(part.check(20))
            await asyncio.sleep(0)
            release.set()
            return first, await again

        first, again = asyncio.run(check())
        assert {answer["error"] for answer in first} == {"no answer within 0.05 s"}
        assert (again, len(asked)) == ({"status": "ok", "found": 1}, 1)

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            pytest.param(NotReady("cannot be reached"), "cannot be reached", id="known"),
            pytest.param(ValueError("s3cret"), "cannot be used", id="unknown"),
        ],
    )
    def test_tells_no_text_of_an_error(self, error, told):
        def fail():
            raise error

        assert asyncio.run(Part("bad", fail).check(5)) == {"status": "failed", "error": told}
