"""Sitemaps: the loc of each url; an index says what to pass instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetcher.sources import SourceError
from tests.support.sources import brief, read, targets


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sitemap.xml"


def test_each_loc_with_its_line(path: Path) -> None:
    data = b"""<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"
        xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
  <url>
    <loc> http://a/?x=1&amp;y=2
    </loc>
    <lastmod>2026-01-01</lastmod>
    <image:image><image:loc>http://images/1</image:loc></image:image>
    <image:loc>http://images/2</image:loc>
  </url>
  <url><loc><![CDATA[http://b/?x=1&y=2]]></loc></url><url><loc>http://c/&#x41;</loc></url>
  <note><loc>http://d/</loc></note>
</urlset>"""

    assert brief(read(path, data)) == [
        (5, "http://a/?x=1&y=2"),
        (11, "http://b/?x=1&y=2"),
        (11, "http://c/A"),
    ]


def test_prefixes_do_not_matter(path: Path) -> None:
    data = b"<s:urlset xmlns:s='x'><s:url><s:loc>http://a/</s:loc></s:url></s:urlset>"

    assert [target.url for target in targets(read(path, data))] == ["http://a/"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (b"<url/>", "<url> has no <loc>"),
        (b"<url><lastmod>http://a/</lastmod></url>", "<url> has no <loc>"),
        (b"<url><loc/></url>", "<loc> is empty"),
        (b"<url><loc> \n</loc></url>", "<loc> is empty"),
        (b"<url><loc>http://a/<b/>c</loc></url>", "<loc> has elements inside; it must be a URL alone"),
        (b"<url><loc><loc>http://a/</loc></loc></url>", "<loc> has elements inside; it must be a URL alone"),
        (b"<url><loc>" + b"x" * 70_000 + b"</loc></url>", "longer than 65536 characters"),
        (b"<url><loc>/page</loc></url>", "is not a URL"),
        (b"<url><loc>http://a/ http://b/</loc></url>", "contains white space; write %20 where a space is meant"),
    ],
)
def test_a_url_that_is_none_is_rejected_and_the_next_is_read(path: Path, url: bytes, reason: str) -> None:
    data = b"<urlset>\n" + url.replace(b"\n", b" ") + b"\n<url><loc>http://z/</loc></url></urlset>"

    assert brief(read(path, data)) == [(2, f"[{reason}]"), (3, "http://z/")]


@pytest.mark.parametrize(
    ("count", "listed"), [(0, "none"), (1, "http://a/0"), (3, "http://a/0, http://a/1, http://a/2"),
                          (9, "http://a/0, http://a/1, http://a/2, …")]
)  # fmt: skip
def test_an_index_lists_the_first_of_its_sitemaps(path: Path, count: int, listed: str) -> None:
    data = "".join(f"<sitemap><loc>http://a/{number}</loc></sitemap>" for number in range(count))
    with pytest.raises(SourceError) as caught:
        read(path, f"<sitemapindex>{data}</sitemapindex>".encode())

    assert str(caught.value) == (
        f"{path}: is an index of sitemaps, not a list of pages; download its sitemaps and pass those: {listed}"
    )


@pytest.mark.parametrize("root", ["rss", "feed", "html", "opml"])
def test_another_vocabulary_is_named(path: Path, root: str) -> None:
    with pytest.raises(SourceError, match=f"its root element is <{root}>, not <urlset> or <sitemapindex>"):
        read(path, f"<{root}>".encode(), "sitemap")
