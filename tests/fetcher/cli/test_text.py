"""Figures as people read them."""

from __future__ import annotations

import sys

import pytest

from fetcher.cli.text import count, duration, printable, program, size


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(0, "", "0"), (1234567, "", "1,234,567"), (1, "target", "1 target"), (0, "target", "0 targets"),
     (1234, "target", "1,234 targets")],
)  # fmt: skip
def test_counts(number, noun, text):
    assert count(number, noun) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1,023 B"), (1024, "1.0 KiB"), (1536 * 1024, "1.5 MiB"), (2**30, "1.0 GiB"),
     (5 * 2**40, "5.0 TiB"), (5000 * 2**40, "5,000.0 TiB")],
)  # fmt: skip
def test_sizes(number, text):
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.35, "350 ms"), (0.9999, "1.0 s"), (1, "1.0 s"), (4.23, "4.2 s"), (59.94, "59.9 s"),
     (59.96, "1 min 00 s"), (60, "1 min 00 s"), (185, "3 min 05 s"), (3599.6, "1 h 00 min"), (7800, "2 h 10 min")],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("text", "shown"),
    [("é 1", "é 1"), ("\x1b[31mred", " [31mred"), ("a\r\nb\x00", "a  b "),
        ("\x9b31m\x7f", " 31m "), ("\u202egpj.exe\u2066\u200f\u061c\u2028", " gpj.exe    ")])  # fmt: skip
def test_what_could_command_a_terminal_is_not_printed(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("executable", "path", "text"),
    [
        ("/env/bin/python", "/env/bin", "python manage.py"),
        ("/elsewhere/bin/python", "/env/bin", "/elsewhere/bin/python manage.py"),
        ("{here}/.venv/bin/python", "/env/bin", ".venv/bin/python manage.py"),
    ],
)
def test_the_program_is_named_as_it_can_be_called(executable, path, text, monkeypatch, tmp_path):
    (tmp_path / "env").mkdir()
    python = tmp_path / path.lstrip("/") / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.touch(mode=0o755)
    here = tmp_path / "project"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", str(python.parent))
    monkeypatch.setattr(sys, "argv", ["manage.py", "demo"])
    executable = executable.replace("{here}", str(here)).replace("/env/bin", str(python.parent))
    monkeypatch.setattr(sys, "executable", executable)
    assert program() == text
