"""A run full of secrets, and everything that people read of it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from fetcher.details import decode_detail
from fetcher.models import RejectedLine, Result, Run, Target
from jobs.models import Job
from tests.support.answering import AnsweringServer, Asked, answering
from tests.support.commands import Called

ALLOW = ("--allow-network", "127.0.0.1/32", "--max-attempts", "1")
SECRET = re.compile(r"SW-[a-z0-9]+")
"""Every secret of these tests begins with SW-."""
IN_URLS = {"SW-query", "SW-failed", "SW-redirect", "SW-own"}
"""Those that are in URLs which must be requested: the API and exports carry them."""

pytestmark = pytest.mark.django_db(transaction=True)


def answer(asked: Asked) -> tuple[int, dict[str, str], bytes]:
    path = asked.target.partition("?")[0]
    if path == "/redirect":
        return 302, {"Location": "/final?token=SW-redirect"}, b""
    if path == "/badlocation":
        return 302, {"Location": "http://u:SW-userbad@[bad/?code=SW-badlocation"}, b""
    if path == "/away":
        return 307, {"Location": asked.target.partition("to=")[2]}, b""
    if path == "/missing":
        return 404, {}, b""
    headers = {
        "X-Api-Key": "SW-answerkey", "Authorization": "Bearer SW-answerauth", "Set-Cookie": "a=SW-cookie",
        "X-Auth-Token": "SW-answertoken", "Content-Location": "http://u:SW-userinfo@h/?sig=SW-location",
        "Link": "<http://h/?access_token=SW-link>; rel=next",
    }  # fmt: skip
    return 200, headers, b"ok"


@dataclass
class Swept:
    """Everything that was shown, by where it was."""

    shown: dict[str, str] = field(default_factory=dict)

    def call(self, command: str, *arguments: str) -> Called:
        called = Called(*arguments, command=command)
        self.shown[f"{command} {' '.join(arguments)[:60]}"] = called.out + called.err
        return called

    def leaks(self) -> dict[str, set[str]]:
        found = {where: set(SECRET.findall(text)) for where, text in self.shown.items()}
        return {where: secrets for where, secrets in found.items() if secrets}


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    with answering(answer) as found:
        yield found


@pytest.fixture
def listed(server: AnsweringServer, tmp_path: Path) -> str:
    own = {"url": f"{server.base}/own?client_secret=SW-own", "headers": {"X-Auth-Token": "SW-ownheader"}}
    lines = [
        json.dumps(own),
        json.dumps(f"{server.base}/plain?api_key=SW-query&page=1"),
        json.dumps(f"{server.base}/redirect"),
        json.dumps(f"{server.base}/badlocation"),
        json.dumps(f"{server.base}/missing?X-Amz-Signature=SW-failed"),
        json.dumps("ftp://u:SW-rejecteduser@h/?token=SW-rejected"),
        json.dumps("example.org/?password=SW-scheme"),
        json.dumps("https://h/?token=SW-white space"),
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    return str(tmp_path / "list.jsonl")


def fetched(swept: Swept, listed: str) -> None:
    called = swept.call("fetch_urls", "--file", listed, *ALLOW, "--header", "Private-Token: SW-runheader")
    assert called.code == 3
    assert Result.objects.count() == 5
    assert RejectedLine.objects.count() == 3


def test_commands_show_no_secret(server: AnsweringServer, listed: str, caplog: pytest.LogCaptureFixture) -> None:
    swept = Swept()
    with caplog.at_level(logging.DEBUG):
        swept.call("fetch_urls", "--plan", "--file", listed, *ALLOW)
        fetched(swept, listed)
        swept.call("runs", "list")
        swept.call("runs", "show", "latest")
        for pk in Result.objects.values_list("pk", flat=True):
            swept.call("result", str(pk))
        swept.call("result", f"{server.base}/never?api_key=SW-never")
        swept.call("result", "h/?api_key=SW-never")
        swept.call("job", "add", "api", "--file", listed, "--header", "Private-Token: SW-runheader")
        swept.call("job", "show", "api")
        swept.call("fetch_urls", "--retry-failed", "latest")
        swept.call("fetch_urls", "--retry-failed", "latest", "--header", "Private-Token: SW-runheader")
    swept.shown["log"] = caplog.text
    assert swept.leaks() == {}
    assert sum("***" in text for text in swept.shown.values()) >= 8
    # What could be asked was asked with its secrets.
    assert "/plain?api_key=SW-query&page=1" in {asked.target for asked in server.asked}
    assert {asked.headers["private-token"] for asked in server.asked} == {"SW-runheader"}
    assert "SW-ownheader" in {asked.headers.get("x-auth-token") for asked in server.asked}


def test_pages_show_no_secret(listed: str) -> None:
    swept = Swept()
    fetched(swept, listed)
    Called("add", "api", "--file", listed, "--header", "Private-Token: SW-runheader", command="job")
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    paths = [f"fetcher/{name}/" for name in ("run", "result", "target", "body", "rejectedline")]
    paths += ["jobs/job/", f"fetcher/run/{Run.objects.get().pk}/change/", f"jobs/job/{Job.objects.get().pk}/change/"]
    paths += [f"fetcher/result/{pk}/change/" for pk in Result.objects.values_list("pk", flat=True)]
    paths += [f"fetcher/target/{pk}/change/" for pk in Target.objects.values_list("pk", flat=True)]
    for path in paths:
        response = client.get(f"/admin/{path}")
        assert response.status_code == 200, path
        swept.shown[path] = response.content.decode()
    assert swept.leaks() == {}


def test_api_and_exports_have_urls_as_requested_and_nothing_else(listed: str) -> None:
    swept = Swept()
    fetched(swept, listed)
    swept.call("export_run", "latest", "--output", "-")
    client = Client()
    run = Run.objects.get().pk
    paths = ["runs/", f"runs/{run}/", f"runs/{run}/results/"]
    paths += [f"results/{pk}/" for pk in Result.objects.values_list("pk", flat=True)]
    for path in paths:
        response = client.get(f"/api/v1/{path}")
        assert response.status_code == 200, path
        swept.shown[path] = response.content.decode()
    swept.shown["fanout/"] = client.get(
        "/api/v1/fanout/", {"url": "http://u:SW-fanout@h/?token=SW-fanout"}
    ).content.decode()
    leaked = set().union(*swept.leaks().values())
    assert leaked == IN_URLS


def test_nothing_else_is_at_rest_once_the_run_is_over(listed: str) -> None:
    fetched(Swept(), listed)
    found = []
    with connection.cursor() as cursor:
        for name in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(name)}")
            for row in cursor.fetchall():
                found += [bytes(v).decode("latin-1") if isinstance(v, bytes | memoryview) else str(v) for v in row]
    found += [repr(decode_detail(detail)) for detail in Result.objects.values_list("detail", flat=True)]
    assert set(SECRET.findall("\n".join(found))) == IN_URLS


@pytest.mark.parametrize("transport", ["libcurl", "h11"])
def test_redirect_to_another_origin_gets_none(
    settings, server: AnsweringServer, tmp_path: Path, transport: str
) -> None:
    settings.FETCHER_TRANSPORT = transport
    settings.FETCHER_SECRET_HEADERS = "x-acme-*"
    own = {
        "Private-Token": "SW-a",
        "X-Amz-Security-Token": "SW-b",
        "Api-Key": "SW-c",
        "X-Acme-Id": "SW-d",
        "X-Plain": "e",
    }
    with answering(answer) as other:
        line = {"url": f"{server.base}/away?to={other.base}/x", "headers": own}
        (tmp_path / "one.jsonl").write_text(json.dumps(line))
        Called("--file", str(tmp_path / "one.jsonl"), *ALLOW, "--header", "X-Vault-Token: SW-f")
    sent = {name: value for name, value in other.asked[0].headers.items() if name.startswith(("x-", "api", "private"))}
    assert sent == {"x-plain": "e"}
    assert server.asked[0].headers["x-vault-token"] == "SW-f"
