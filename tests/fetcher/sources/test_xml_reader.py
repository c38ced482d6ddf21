"""XML is read as it comes, and whatever could make the parser grow, fetch or guess is refused."""

from __future__ import annotations

import encodings.aliases
import io

import pytest

from fetcher.sources import Entry, SourceError
from fetcher.sources.sitemap import ROOTS
from fetcher.sources.stream import Stream
from fetcher.sources.xml_reader import MAX_DEPTH, MAX_NAMES, MAX_QUIET, read_xml
from tests.support.packing import gzipped

URL = b"<url><loc>http://a/</loc></url>"


def read(data: bytes) -> list[Entry]:
    return list(read_xml(Stream("map", io.BytesIO(data)), ROOTS))


def urls(data: bytes) -> list[str]:
    return [entry.target.url for entry in read(data) if entry.target]


@pytest.mark.parametrize(
    "data",
    [
        b"<urlset>" + URL + b"</urlset>",
        b'\n <urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">' + URL + b"</urlset>\n<!-- end -->",
        b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE urlset>\n<urlset>' + URL + b"</urlset>",
        b'\xef\xbb\xbf<?xml version="1.0" encoding="ISO-8859-1"?><urlset>' + URL + b"</urlset>",
        f'<?xml version="1.0" encoding="UTF-16"?><urlset>{URL.decode()}</urlset>'.encode("utf-16"),
        gzipped(b"<urlset>" + URL + b"</urlset>"),
    ],
)
def test_a_document_however_it_is_encoded(data: bytes) -> None:
    assert urls(data) == ["http://a/"]


def test_the_declared_encoding_is_heeded() -> None:
    data = b'<?xml version="1.0" encoding="iso-8859-1"?><urlset><url><loc>http://a/\xe9</loc></url></urlset>'

    assert urls(data) == ["http://a/%C3%A9"]


@pytest.mark.parametrize(
    "name", sorted({*encodings.aliases.aliases.values(), "idna", "punycode", "klingon", "x" * 1000})
)
def test_whatever_encoding_is_declared_ends_in_words(name: str) -> None:
    try:
        found = urls(f'<?xml version="1.0" encoding="{name}"?><urlset>{URL.decode()}</urlset>'.encode())
    except SourceError as exc:
        assert "encoding" in str(exc) or "well-formed" in str(exc)  # noqa: PT017
    else:
        assert found in (["http://a/"], [])


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "line 1: is not well-formed XML: it ends too early"),
        (b"http://a/\n", "line 1: is not well-formed XML: not well-formed (invalid token)"),
        (b"<urlset>\n<url>", "line 2: is not well-formed XML: it ends too early"),
        (b"<urlset>\n</url>", "line 2: is not well-formed XML: mismatched tag"),
        (b"<urlset/>\n<urlset/>", "line 2: is not well-formed XML: junk after document element"),
        (b"\xff<urlset/>", "is not well-formed XML"),
        (b"<urlset>&#8;</urlset>", "forbids control characters also as references, remove it"),
        (b"<urlset a='<'/>", "(invalid token); a < in a text is written &lt;"),
        (b"x\n<?xml version='1.0'?><urlset/>", "line 1: is not well-formed XML: syntax error"),
        (b"<!-- x --><?xml version='1.0'?><urlset/>", "its <?xml line must be the first"),
        (b"<?xml version='1.0' encoding='hz'?><urlset/>", "names an encoding that cannot be read; save it as UTF-8"),
        (b"<urlset a='1' a='2'/>", "duplicate attribute"),
        (b"<urlset>http://a/?a&b=c</urlset>", "an & in a URL is written &amp;"),
        (b"<urlset>&nbsp;</urlset>", "undefined entity; an & in a URL is written &amp;"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><urlset>&a;</urlset>', "the document type declares something"),
        (b'<!DOCTYPE x [<!ATTLIST a b CDATA "c">]><urlset/>', "the document type declares something"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><urlset/>', "or is kept elsewhere, which is refused"),
        (b'<!DOCTYPE x PUBLIC "-//W3C//DTD" "http://a/x.dtd"><urlset>&b;</urlset>', "or is kept elsewhere"),
        (b'<!DOCTYPE x [<!ENTITY % a SYSTEM "http://a/">%a;]><urlset/>', "the document type declares something"),
        (b"<urlset>" + b"<a>" * MAX_DEPTH, "elements are nested more than 100 deep"),
        (b"<urlset>" + b"".join(b"<a%d/>" % n for n in range(MAX_NAMES)), "more than 1000 different names"),
        (b"<urlset><!--" + b"x" * 2 * MAX_QUIET, "more than 1048576 bytes follow without a tag"),
        (b"<urlset a='" + b"x" * 2 * MAX_QUIET + b"'/>", "more than 1048576 bytes follow without a tag"),
        (b"<urlset>" + b"x" * 2 * MAX_QUIET, "more than 1048576 bytes follow without a tag"),
    ],
)  # fmt: skip
def test_what_is_refused(data: bytes, error: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(data)

    assert str(caught.value).startswith("map: ")
    assert error in str(caught.value)


@pytest.mark.parametrize("end", [b"<", b"&x;</urlset>", b"</wrong>", b""])
def test_what_came_before_a_mistake_is_yielded_first(end: bytes) -> None:
    entries = read_xml(Stream("map", io.BytesIO(b"<urlset>\n" + URL + end)), ROOTS)

    assert next(entries).line == 2
    with pytest.raises(SourceError, match="map: line 2: is not well-formed"):
        next(entries)


def test_what_came_before_the_end_of_a_cut_off_file_is_yielded_first() -> None:
    entries = read_xml(Stream("map", io.BytesIO(gzipped(b"<urlset>\n" + URL + b"\n</urlset>")[:-8])), ROOTS)

    assert next(entries).line == 2
    with pytest.raises(SourceError, match="map: reading stopped in line 3: its gzip data ends in the middle"):
        next(entries)


@pytest.mark.parametrize(
    "bad", [b"<urlset><ur l x></urlset>", b"<urlset></wrong>", b"<urlset a='1' a='2'/>", b"<urlset>]]></urlset>"]
)
def test_an_ampersand_is_named_only_where_it_is_at_fault(bad: bytes) -> None:
    with pytest.raises(SourceError) as caught:
        read(b"<!-- a &amp; b & c -->" + bad)

    assert "&amp;" not in str(caught.value)


@pytest.mark.parametrize("bad", [b"&", b"&y=z", b"& z", "&\xe9=1".encode(), b"&" + b"y" * 80 + b"=1", b"&eacute;"])
def test_the_ampersand_that_is_at_fault_is_named(bad: bytes) -> None:
    for filler in (0, 64 * 2**10 - 30):
        with pytest.raises(SourceError, match="an & in a URL is written &amp;"):
            read(b"<urlset>" + b" " * filler + b"<url><loc>http://a/?x" + bad + b"</loc></url></urlset>")
