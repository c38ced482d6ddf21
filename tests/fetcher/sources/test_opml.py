"""OPML: the feeds of a reader's list, with their titles as labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetcher.engine.types import Target
from fetcher.sources import SourceError
from tests.support.sources import brief, read, targets


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "feeds.opml"


def test_feeds_are_found_in_folders_and_folders_are_passed_over(path: Path) -> None:
    data = """<?xml version="1.0"?>
<opml version="2.0"><head><title>Mine</title></head><body>
  <outline text="News">
    <outline type="rss" title="A &amp; B" text="x" xmlUrl="http://a/?x&amp;y" htmlUrl="http://a/"/>
    <outline text="C"
             xmlUrl=" http://c/ "/>
  </outline>
  <outline xmlURL="http://d/"/>
</body></opml>"""

    assert targets(read(path, data.encode())) == [
        Target("http://a/?x&y", "a:80", label="A & B"),
        Target("http://c/", "c:80", label="C"),
        Target("http://d/", "d:80"),
    ]


@pytest.mark.parametrize(
    ("title", "label"),
    [("a&#10;b\tc", "a b c"), ("x" * 201, "x" * 199 + "…"), ("", "text"), (" ", "text"), ("a&#xa0; b", "a b")],
)
def test_a_title_is_put_on_one_line_and_cut(path: Path, title: str, label: str) -> None:
    data = f'<opml><outline xmlUrl="http://a/" title="{title}" text="text"/></opml>'

    assert [target.label for target in targets(read(path, data.encode()))] == [label]


def test_what_is_no_url_is_rejected_with_its_line(path: Path) -> None:
    data = b"<opml>\n<outline xmlUrl=''/>\n<outline xmlUrl='feed://a/'/>\n<outline xmlUrl='http://a/'/></opml>"

    assert brief(read(path, data)) == [
        (2, "[xmlUrl is empty]"),
        (3, "[the scheme 'feed' is not supported; only http and https are]"),
        (4, "http://a/"),
    ]


def test_another_vocabulary_is_named(path: Path) -> None:
    with pytest.raises(SourceError, match="its root element is <urlset>, not <opml>"):
        read(path, b"<urlset/>", "opml")
