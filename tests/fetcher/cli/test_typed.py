"""URLs that a person types without a scheme."""

from __future__ import annotations

import pytest
from django.core.management.base import CommandError

from fetcher.cli.typed import completed, completed_all
from fetcher.models import Run
from fetcher.models import Target as StoredTarget
from tests.support.commands import Called


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("example.org", "https://example.org"),
        ("example.org/a?b=c#d", "https://example.org/a?b=c#d"),
        ("example.org:8443/a", "https://example.org:8443/a"),
        ("localhost:8000", "https://localhost:8000"),
        ("127.0.0.1/x", "https://127.0.0.1/x"),
        ("bücher.example/", "https://bücher.example/"),
        ("http://example.org", "http://example.org"),
        ("ftp://example.org", "ftp://example.org"),
        ("mailto:me@example.org", "mailto:me@example.org"),
        ("me:secret@example.org", "me:secret@example.org"),
        ("urls.txt", "urls.txt"),
        ("lists/items.csv.gz", "lists/items.csv.gz"),
        ("example.org:port", "example.org:port"),
        ("nonsense", "nonsense"),
        ("no url", "no url"),
        ("", ""),
        ("-", "-"),
    ],
)
def test_completed_adds_https_to_what_begins_with_a_host(text, url):
    assert completed(text) == url


def test_note_names_what_was_completed_and_masks_secrets():
    notes: list[str] = []
    urls = completed_all(["http://a.example/", "b.example/?password=hidden1", *["c.example"] * 6], notes.append)
    assert urls[:2] == ["http://a.example/", "https://b.example/?password=hidden1"]
    [note] = notes
    assert note.startswith("no scheme was given, https is used: https://b.example/")
    assert note.endswith(" and 2 more")
    assert "hidden1" not in note


def test_nothing_is_noted_when_all_have_a_scheme():
    notes: list[str] = []
    assert completed_all(["http://a.example/"], notes.append) == ["http://a.example/"]
    assert notes == []


def test_name_of_a_file_is_refused_with_the_option_that_reads_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.urls").touch()
    with pytest.raises(CommandError, match=r"'list.urls' is a file: read it with --file list.urls") as raised:
        completed_all(["list.urls"], print)
    assert raised.value.returncode == 2


@pytest.mark.django_db(transaction=True)
class TestCommands:
    def test_fetch_urls_uses_https_and_says_so(self):
        called = Called("127.0.0.1:9/a", "--output", "json")
        assert called.err.startswith("no scheme was given, https is used: https://127.0.0.1:9/a\n")
        assert StoredTarget.objects.get().url == "https://127.0.0.1:9/a"

    def test_quiet_fetch_urls_does_not_say_so(self):
        assert "no scheme" not in Called("127.0.0.1:9/a", "--quiet").err

    def test_job_add_uses_https_and_says_so(self):
        called = Called("add", "news", "example.org", command="job")
        assert (called.code, called.err) == (0, "no scheme was given, https is used: https://example.org\n")
        assert StoredTarget.objects.get().url == "https://example.org/"

    def test_file_is_read_as_it_is_written(self, tmp_path):
        (tmp_path / "list").write_text("example.org\n")
        called = Called("--file", str(tmp_path / "list"))
        assert called.code == 3
        assert "has no scheme; write https://example.org" in called.err
        assert Run.objects.get().rejected == 1

    def test_result_finds_what_was_fetched(self):
        Called("127.0.0.1:9/a")
        called = Called("127.0.0.1:9/a", command="result")
        assert (called.code, called.err) == (0, "")
        assert "GET https://127.0.0.1:9/a" in called.out
