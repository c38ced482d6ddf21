"""The secret key that a machine makes for itself."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from settings.secret_key import kept_secret_key
from tests.support.processes import ROOT


def test_key_is_made_once_and_kept(tmp_path: Path) -> None:
    key = kept_secret_key(tmp_path / "key")
    assert len(key) >= 50
    assert kept_secret_key(tmp_path / "key") == key
    assert kept_secret_key(tmp_path / "other") != key


def test_key_file_is_the_users_alone_and_nothing_else_is_left(tmp_path: Path) -> None:
    kept_secret_key(tmp_path / "key")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_processes_that_start_together_have_the_same_key(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from settings.secret_key import kept_secret_key; "
        "sys.stdin.read(); print(kept_secret_key(Path(sys.argv[1])))"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "key")],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(8)
    ]  # fmt: skip
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    keys = {process.communicate()[0] for process in started}
    assert keys == {f"{kept_secret_key(tmp_path / 'key')}\n"}


def test_key_that_other_users_can_read_is_refused(tmp_path: Path) -> None:
    kept_secret_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(ImproperlyConfigured, match="can be read by other users: remove it, or call chmod 600"):
        kept_secret_key(tmp_path / "key")


def test_file_without_a_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").touch(mode=0o600)
    with pytest.raises(ImproperlyConfigured, match="does not hold a secret key"):
        kept_secret_key(tmp_path / "key")


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"SECRET_KEY is not set, and cannot be kept in .*key \(no such"):
        kept_secret_key(tmp_path / "missing" / "key")
