"""What is said of a defect that costs one target."""

from __future__ import annotations

import pytest

from fetcher.engine import defects
from fetcher.engine.defects import report_defect
from fetcher.engine.urls import parse_url


@pytest.fixture(autouse=True)
def log_anew(monkeypatch):
    monkeypatch.setattr(defects, "_logged", set())


def caught(secret: str = "secret") -> Exception:
    """Return an exception that was raised in the project's own code."""
    try:
        parse_url(f"http://a.example:{secret}/")
    except ValueError as exc:
        return exc
    raise AssertionError


def test_defect_is_named_with_its_place_and_without_its_message(caplog):
    text = report_defect(caught(), "reading")
    assert text.startswith("InvalidUrl while reading (fetcher/engine/urls.py:")
    assert "secret" not in text + caplog.text.partition("\n")[0]


def test_defect_is_logged_once_for_each_place(caplog):
    texts = {report_defect(caught(number), "reading") for number in ("one", "two")}
    assert len(texts) == len(caplog.records) == 1
    assert "parse_url" in caplog.text
    report_defect(KeyError("x"), "reading")
    assert len(caplog.records) == 2


def test_recursion_is_named_by_its_innermost_place():
    def deep() -> None:
        deep()

    with pytest.raises(RecursionError) as raised:
        deep()
    assert report_defect(raised.value, "extracting") == "RecursionError while extracting"
