"""Rows of earlier versions, in which a reference was text and a secret was a marker."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from django.test import override_settings

from fetcher.engine.config import FetchConfig
from fetcher.engine.references import EnvReference
from fetcher.migrations import _headers
from fetcher.models import Run, Target
from fetcher.options import RunOptions
from fetcher.secrets import seal
from fetcher.store import runs
from tests.rows import make_target

OVER = ("completed", "cancelled", "failed")
USUAL = ["authorization", "cookie", "proxy-authorization", "x-api-key"]

pytestmark = pytest.mark.django_db


class EarlierSecrets(msgspec.Struct, omit_defaults=True):
    headers: tuple[tuple[str, str], ...] | None = None
    data: bytes | None = None


def earlier_run(
    shown: list[list[str]], *, sealed: EarlierSecrets | None = None, state: str = "interrupted", names: Any = ()
) -> Run:
    options = runs.dump_options(FetchConfig())
    del options["secret_parameters"]
    options.update(headers=shown, secret_headers=sorted([*USUAL, *names]))
    return Run.objects.create(state=state, options=options, secrets=None if sealed is None else seal(sealed))


def migrated(run: Run) -> Run:
    _headers.type_options(Run, over=OVER)
    run.refresh_from_db()
    return run


def test_references_of_a_run_keep_their_meaning() -> None:
    run = migrated(earlier_run([["Authorization", "env:TOKEN"], ["X-A", "basic-env:LOGIN"], ["X-B", "an env:TOKEN"]]))
    assert runs.load_config(run) == FetchConfig(
        headers=(
            ("Authorization", EnvReference("TOKEN")),
            ("X-A", EnvReference("LOGIN", basic=True)),
            ("X-B", "an env:TOKEN"),
        )
    )


def test_sealed_secrets_and_references_beside_them_keep_their_meaning() -> None:
    whole = (("Authorization", "Bearer s3cret"), ("Cookie", "env:SESSION"), ("X-Acme", "mine"))
    shown = [["Authorization", "***"], ["Cookie", "env:SESSION"], ["X-Acme", "***"]]
    run = migrated(earlier_run(shown, sealed=EarlierSecrets(whole, b"body"), names=["x-acme"]))
    assert run.options["headers"] == [["Authorization", None], ["Cookie", {"env": "SESSION"}], ["X-Acme", None]]
    config = runs.load_config(run)
    assert config.headers == (whole[0], ("Cookie", EnvReference("SESSION")), whole[2])
    assert config.secret_headers == {"x-acme"}
    assert runs.load_options(run) == RunOptions(data=b"body")
    assert runs.wiped_headers(run) == []


@pytest.mark.parametrize("data", [None, b"body"])
def test_literal_that_is_secret_by_now_is_sealed(data: bytes | None) -> None:
    run = migrated(earlier_run([["X-Auth-Token", "s3cret"], ["X-A", "1"]], sealed=data and EarlierSecrets(data=data)))
    assert run.options["headers"] == [["X-Auth-Token", None], ["X-A", "1"]]
    assert runs.load_config(run).headers == (("X-Auth-Token", "s3cret"), ("X-A", "1"))
    assert runs.load_options(run).data == data


@pytest.mark.parametrize("state", OVER)
def test_literal_of_a_run_that_is_over_is_removed(state: str) -> None:
    run = migrated(earlier_run([["X-Auth-Token", "s3cret"], ["Authorization", "***"]], state=state))
    assert run.options["headers"] == [["X-Auth-Token", None], ["Authorization", None]]
    assert runs.wiped_headers(run) == ["X-Auth-Token", "Authorization"]


def test_what_cannot_be_opened_is_left_as_it_is() -> None:
    with override_settings(SECRET_KEY="another"):
        run = earlier_run([["X-Auth-Token", "s3cret"], ["Cookie", "env:A"]], sealed=EarlierSecrets(data=b"body"))
    assert migrated(run).options["headers"] == [["X-Auth-Token", "s3cret"], ["Cookie", {"env": "A"}]]


def test_references_of_targets_keep_their_meaning() -> None:
    target = make_target("http://a.example/")
    Target.objects.update(headers=[["Cookie", "env:SESSION"], ["Authorization", None], ["X-A", "1"]])
    _headers.type_targets(Target)
    target.refresh_from_db()
    assert target.headers == [["Cookie", {"env": "SESSION"}], ["Authorization", None], ["X-A", "1"]]
    _headers.untype_targets(Target)
    target.refresh_from_db()
    assert target.headers == [["Cookie", "env:SESSION"], ["Authorization", None], ["X-A", "1"]]


def test_it_can_be_undone() -> None:
    shown = [["Authorization", "***"], ["Cookie", "env:SESSION"]]
    whole = (("Authorization", "Bearer s3cret"), ("Cookie", "env:SESSION"))
    config = FetchConfig(headers=(whole[0], ("Cookie", EnvReference("SESSION"))))
    run = Run.objects.get(pk=runs.create_run(config, RunOptions(data=b"body")))
    _headers.untype_options(Run)
    run.refresh_from_db()
    assert (run.options["headers"], run.options["secret_headers"]) == (shown, USUAL)
    assert runs._unsealed(run).headers == whole
    assert runs.load_options(run).data == b"body"
