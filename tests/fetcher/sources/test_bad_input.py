"""A table of what goes wrong in lists: a clear sentence with file, line and reason each time, and no wrong request.

Each row tells all that a source comes to: requests as ``GET url``, rejected lines as ``line: reason``, the error that
ended it with the file's name.
"""

# ruff: noqa: A002

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.sources import FORMATS, SourceError, open_source
from tests.support.packing import gzipped
from tests.support.sources import story

GOOD = "GET http://good/"
GZIPPED = gzipped(b"http://good/\nhttp://cut")
CUT_OFF = "list: reading stopped after line 1: its gzip data ends in the middle; the file is cut off"
OPEN_QUOTE = (
    "list: reading stopped in the row that begins in line 2: a quoted field does not end within 1048576 bytes; "
    "is a quotation mark missing, or one too many?"
)

LINES = [
    (b"good\n", ["1: is not a URL"]),
    (b"good.example\n", ["1: has no scheme; write https://good.example"]),
    (b"//good/\n", ["1: is not a URL"]),
    (b"ftp://good/\n", ["1: the scheme 'ftp' is not supported; only http and https are"]),
    (b"javascript:alert(1)\n", ["1: the scheme 'javascript' is not supported; only http and https are"]),
    (b"http:/good/\n", ["1: needs exactly two slashes after http:"]),
    (b"http://go od/\n", ["1: contains white space; write %20 where a space is meant"]),
    (b"http://good/,http://b c/\n", ["1: contains white space; write %20 where a space is meant"]),
    (b"http://good/\0\n", ["1: contains the control character '\\x00'"]),
    (b"http://good/\x1b[31m\n", ["1: contains the control character '\\x1b'"]),
    (b"\nhttp://good/\xff\nhttp://good/", ["2: is not valid UTF-8", GOOD]),
    (b"http://good\\x\n", ["1: contains a backslash; write / or %5C"]),
    (b"http://joe:pw@good/\n", ["1: contains a user name or password; send them in an Authorization header instead"]),
    (b"http://%67ood/\n", ["1: has a percent-encoded host; write the name itself"]),
    (b"http://good:99999/\n", ["1: is not a valid URL: its host or port cannot be read"]),
    (b"http://good:0/\n", ["1: has the port 0, which cannot be connected to"]),
    (b"http://" + b"g" * 64 + b"/\n", ["1: has a host that no name server can know: '" + "g" * 64 + "'"]),
    (b"http://good/" + b"x" * 8000, ["1: longer than 8000 characters"]),
    (b"http://good/" + b"x" * 10 * 2**20 + b"\nhttp://good/", ["1: longer than 65536 bytes", GOOD]),
    (b"\xff\xfeh\0t\0t\0p\0:\0/\0/\0g\0/\0\n", ["1: is not valid UTF-8"]),
    (b"h\0t\0t\0p\0:\0/\0", ["list: looks like UTF-16 without a byte order mark; save it as UTF-8"]),
    (b"\xff\xfe\0\0h\0\0\0", ["list: is UTF-32; save it as UTF-8"]),
    (b"PK\x03\x04\x14\0", ["list: is a ZIP archive or a spreadsheet; unpack it, or save it as CSV"]),
    (b"%PDF-1.7\n", ["list: is a PDF document; save its URLs as text"]),
    (gzipped(GZIPPED), ["list: is gzip inside gzip; decompress it once"]),
    (GZIPPED[:-8], [GOOD, CUT_OFF]),
    (GZIPPED[:12], ["list: reading stopped after line 0: its gzip data ends in the middle; the file is cut off"]),
    (GZIPPED + b"x", [GOOD, "GET http://cut/"]),
    (GZIPPED + b"more", [GOOD, "GET http://cut/"]),
    (GZIPPED + GZIPPED[:12], [GOOD, CUT_OFF]),
    (GZIPPED + b"\x1f\x8bmore", [GOOD, "list: reading stopped after line 1: its gzip data is damaged"]),
    (b"\x1f\x8b no gzip at all", ["list: reading stopped after line 0: its gzip data is damaged"]),
]  # fmt: skip

CSV = [
    (b"", ["list: is empty; its first row must name the columns, one of them url"]),
    (b"\r\n\r\n", ["list: is empty; its first row must name the columns, one of them url"]),
    (b"id,link\n1,http://good/\n", ["list: has no column url (found: id, link); call the column with the URLs url"]),
    (b"id:url\n1:http://good/\n", ["list: has no column url (found: id:url); call the column with the URLs url"]),
    (b"http://good/,1\n", ["list: has no header row; its first row must name the columns, one of them url "
      "(--format lines reads each line as a URL)"]),
    (b"url,url\nhttp://good/,x\n", ["list: has 2 columns called url; keep one"]),
    (b"url,retry,retry\n", ["list: has 2 columns called retry; keep one"]),
    (b"url\rhttp://good/\r", ["list: has a carriage return inside its header row; lines must end with LF or CRLF"]),
    (b"x" * 2**21, ["list: its header row is longer than 1048576 bytes"]),
    (b"x,url\n1\n1,http://good/",
     ["2: columns: 1, where the header row has 2; a field with the delimiter in it needs quotes", GOOD]),
    (b"url,x\nhttp://b/,1,2\nhttp://good/,1,,",
     ["2: columns: 3, where the header row has 2; a field with the delimiter in it needs quotes", GOOD]),
    (b"url\nhttp://b/?x,y\n",
     ["2: columns: 2, where the header row has 1; a field with the delimiter in it needs quotes"]),
    (b"url,x\n,1\n", ["2: url: is empty"]),
    (b"url,x\nhttp://b\xff/,1\n", ["2: url: is not valid UTF-8"]),
    (b"url,method\nhttp://b/,GE T\n",
     ["2: method: 'GE T' is no method; write GET, POST, \N{HORIZONTAL ELLIPSIS} or another name in capitals, "
      "without spaces"]),
    (b"url,method\nhttp://b/,connect\n", ["2: method: CONNECT asks a proxy for a tunnel and cannot be fetched"]),
    (b"url,method,body\nhttp://b/,TRACE,x\n",
     ["2: body: a TRACE request has none; leave it out, or use another method"]),
    (b"url,headers\nhttp://b/,A: b\n",
     ['2: headers: must be an object of strings such as {"Accept": "text/html"}, or a list of [name, value] pairs']),
    (b'url,headers\nhttp://b/,"{""A"":""b\\nC: d""}"\n',
     ["2: headers: the value of A has a line break or another character that cannot be sent"]),
    (b'url,headers\nhttp://b/,"{""A"":""1"",""A"":""2""}"\n', ["2: A: is given more than once"]),
    (b"url,retry\nhttp://b/,perhaps\n", ["2: retry: must be true or false, or empty"]),
    (b'url,label\nhttp://b/,"a\nb"\n', ["2: label: has a line break or another control character"]),
    (b"url,label\nhttp://b/," + b"x" * 201, ["2: label: is longer than 200 characters"]),
    (b'url,x\nhttp://b/,"a"b\nhttp://good/,', ["2: a quotation mark stands inside a quoted field; double it", GOOD]),
    (b"url,x\nhttp://b/,a\rb\nhttp://good/,",
     ["2: has a carriage return in the middle; lines end with LF or CRLF", GOOD]),
    (b'url,x\nhttp://b/,"a\nhttp://c/,d\n', [OPEN_QUOTE]),
    (b'url,x\nhttp://b/,"' + b"http://c/,d\n" * 2**17, [OPEN_QUOTE]),
    (b"url,x\nhttp://b/," + b"x" * 10 * 2**20 + b"\nhttp://good/,", ["2: longer than 1048576 bytes", GOOD]),
    (gzipped(b"url,x\nhttp://good/,1\nhttp://b/,1")[:-8],
     [GOOD, "list: reading stopped after line 2: its gzip data ends in the middle; the file is cut off"]),
]  # fmt: skip

HEADERS = '1: headers: must be an object of strings such as {"Accept": "text/html"}, or a list of [name, value] pairs'
BODY = "1: body: must be a string; put JSON into one, with its quotes escaped"
LABEL = "1: label: must be a string or a number"
JSONL = [
    (b'[{"url":"http://good/"}', [GOOD, "list: its JSON array has no end (line 1); the file is cut off"]),
    (b'{"items":[{"url":"http://b/"}]}',
     ["list: has its list inside an object, under 'items'; pass the list: jq '.items' does"]),
    (b'{"url":"http://b/","items":["http://b/"]}',
     ["1: items: is no known field; there are url, method, headers, body, label, retry"]),
    (b'{\n"items":[{"url":"http://b/"}]}',
     ["list: has its list inside an object, under 'items'; pass the list: jq '.items' does"]),
    (b'[1, null, ["http://b/"]]',
     ["1: is neither a JSON object nor a URL in quotes", "1: is neither a JSON object nor a URL in quotes",
      "1: must be an object, or a URL in quotes, not array"]),
    (b"{}", ["1: url: is missing"]),
    (b'{"url":1}', ["1: url: must be a string"]),
    (b'{"url":null}', ["1: url: must be a string"]),
    (b'{"url":["http://b/"]}', ["1: url: must be a string"]),
    (b'{"url":""}', ["1: url: is empty"]),
    (b'{"url":"b.example"}', ["1: has no scheme; write https://b.example"]),
    (b'{"url":"http://b/\\u0000"}', ["1: contains the control character '\\x00'"]),
    (b'{"url":"http://b/\\ud800"}', ["1: is not JSON: it ends too early"]),
    (b'{"url":"http://b/","metod":"POST"}',
     ["1: metod: is no known field; there are url, method, headers, body, label, retry"]),
    (b'{"URL":"http://b/"}', ["1: URL: is no known field; there are url, method, headers, body, label, retry"]),
    (b'{"url":"http://b/","method":1}', ['1: method: must be a string such as "POST"']),
    (b'{"url":"http://b/","method":"CONNECT"}', ["1: method: CONNECT asks a proxy for a tunnel and cannot be fetched"]),
    (b'{"url":"http://b/","headers":"A: b"}', [HEADERS]),
    (b'{"url":"http://b/","headers":["A: b"]}', [HEADERS]),
    (b'{"url":"http://b/","headers":[["A"]]}', [HEADERS]),
    (b'{"url":"http://b/","headers":[["A","b","c"]]}', [HEADERS]),
    (b'{"url":"http://b/","headers":{"A":1}}', [HEADERS]),
    (b'{"url":"http://b/","headers":{"A":null}}', [HEADERS]),
    (b'{"url":"http://b/","headers":{"A b":"1"}}',
     ["1: headers: 'A b' is not a header name (letters, digits and hyphens)"]),
    (b'{"url":"http://b/","headers":{"A":"b\\r\\nC: d"}}',
     ["1: headers: the value of A has a line break or another character that cannot be sent"]),
    (b'{"url":"http://b/","headers":{"A":"\\u20ac"}}',
     ["1: headers: the value of A has a line break or another character that cannot be sent"]),
    (b'{"url":"http://b/","headers":{"Content-Length":"1"}}',
     ["1: headers: the header Content-Length is set by Trawl itself and cannot be given"]),
    (b'{"url":"http://b/","headers":{"A":"env:"}}',
     ["1: headers: the value of A names no environment variable after 'env:'"]),
    (b'{"url":"http://b/","headers":{"A":"1","A":"2"}}', ["1: A: is given more than once"]),
    (b'{"url":"http://b/","body":[1]}', [BODY]),
    (b'{"url":"http://b/","body":{"a":1}}', [BODY]),
    (b'{"url":"http://b/","body":1}', [BODY]),
    (b'{"url":"http://b/","method":"head","body":"x"}',
     ["1: body: a HEAD request has none; leave it out, or use another method"]),
    (b'{"url":"http://b/","label":true}', [LABEL]),
    (b'{"url":"http://b/","label":[1]}', [LABEL]),
    (b'{"url":"http://b/","label":1e999}', [LABEL]),
    (b'{"url":"http://b/","label":' + b"9" * 5000 + b"}", [LABEL]),
    (b'{"url":"http://b/","label":NaN}', ["1: is not JSON: invalid character (byte 27)"]),
    (b'{"url":"http://b/","label":"a\\u0000"}', ["1: label: has a line break or another control character"]),
    (b'{"url":"http://b/","retry":"yes"}', ["1: retry: must be true or false"]),
    (b'{"url":"http://b/","retry":1}', ["1: retry: must be true or false"]),
    (b'{"url":"http://b/","url":"http://c/"}', ["1: url: is given more than once"]),
    (b'{"url":"http://b/","\\u0075rl":"http://c/"}', ["1: url: is given more than once"]),
    (b'{"url":"http://b/"\n"http://good/"', ["1: is not JSON: it ends too early", GOOD]),
    (b'{"url":"http://b/"}{"url":"http://c/"}', ["1: is not JSON: trailing characters (byte 20)"]),
    (b'{"url":"http://b/",}', ["1: is not JSON: trailing comma in object (byte 19)"]),
    (b"{'url':'http://b/'}", ["1: is not JSON: object keys must be strings (byte 1)"]),
    (b"http://b/", ["1: is neither a JSON object nor a URL in quotes"]),
    (b"# comment", ["1: is neither a JSON object nor a URL in quotes"]),
    (b"null", ["1: is neither a JSON object nor a URL in quotes"]),
    (b"\0", ["1: is neither a JSON object nor a URL in quotes"]),
    (b'{"url":"http://b/\xff"}', ["1: is not valid UTF-8"]),
    (b'{"url":' + b"[" * 100_000, ["1: url: must be a string"]),
    (b'{"a":' * 50_000, ["1: a: is no known field; there are url, method, headers, body, label, retry"]),
    (b'{"url":"http://b/","body":"' + b"x" * 10 * 2**20 + b'"}\n"http://good/"',
     ["1: longer than 1048576 bytes", GOOD]),
]  # fmt: skip

NO_DOCTYPE = "the document type declares something or is kept elsewhere, which is refused; remove it; reading stopped"
XML = [
    ("sitemap", b"", ["list: line 1: is not well-formed XML: it ends too early"]),
    ("sitemap", b"http://b/\n", ["list: line 1: is not well-formed XML: not well-formed (invalid token)"]),
    ("sitemap", b"<rss/>", ["list: its root element is <rss>, not <urlset> or <sitemapindex>"]),
    ("opml", b"<html>", ["list: its root element is <html>, not <opml>"]),
    ("auto", b"<feed/>", ["list: its root element is <feed>, not <urlset> or <sitemapindex> or <opml>"]),
    ("auto", b"<sitemapindex><sitemap><loc>http://b/1.xml</loc></sitemap></sitemapindex>",
     ["list: is an index of sitemaps, not a list of pages; download its sitemaps and pass those: http://b/1.xml"]),
    ("sitemap", b"<urlset>\n<url/></urlset>", ["2: <url> has no <loc>"]),
    ("sitemap", b"<urlset>\n<url><loc>b.example</loc></url></urlset>", ["2: has no scheme; write https://b.example"]),
    ("sitemap", b"<urlset><url><loc>http://good/</loc></url>\n<url><loc>http://b/?x&y=z</loc></url></urlset>",
     [GOOD, "list: line 2: is not well-formed XML: not well-formed (invalid token); an & in a URL is written &amp;"]),
    ("sitemap", b"<urlset><url><loc>http://b/", ["list: line 1: is not well-formed XML: it ends too early"]),
    ("sitemap", b'<!DOCTYPE x [<!ENTITY a "b">]><urlset/>', ["list: line 1: " + NO_DOCTYPE]),
    ("sitemap", b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><urlset/>', ["list: line 1: " + NO_DOCTYPE]),
    ("opml", b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><opml a="&b;"/>',
     ["list: line 1: " + NO_DOCTYPE]),
    ("opml", b"<opml>" + b"<outline>" * 200, ["list: line 1: elements are nested more than 100 deep; reading stopped"]),
    ("opml", b"<opml>\n<outline xmlUrl=''/></opml>", ["2: xmlUrl is empty"]),
    ("opml", b"<opml>\n<outline xmlUrl='feed://b/'/></opml>",
     ["2: the scheme 'feed' is not supported; only http and https are"]),
    ("opml", b"<opml><outline xmlUrl='http://b/' xmlUrl='http://c/'/></opml>",
     ["list: line 1: is not well-formed XML: duplicate attribute"]),
    ("opml", b"<opml><outline a='" + b"x" * 10 * 2**20 + b"'/></opml>",
     ["list: line 1: more than 1048576 bytes follow without a tag; reading stopped"]),
    ("opml", b'<?xml version="1.0" encoding="klingon"?><opml/>',
     ["list: its XML declaration names an encoding that cannot be read; save it as UTF-8"]),
    ("opml", gzipped(b"<opml>\n<outline xmlUrl='http://good/'/></opml>")[:-8],
     [GOOD, "list: reading stopped in line 2: its gzip data ends in the middle; the file is cut off"]),
]  # fmt: skip

ROWS = (
    [("lines", data, told) for data, told in LINES]
    + [("csv", data, told) for data, told in CSV]
    + [("jsonl", data, told) for data, told in JSONL]
    + XML
)


@pytest.mark.parametrize(("format", "data", "told"), ROWS, ids=[f"{row[0]}{n}" for n, row in enumerate(ROWS)])
def test_bad_input_is_told_in_words(tmp_path: Path, format: str, data: bytes, told: list[str]) -> None:
    assert story(tmp_path / "list", data, format) == told


def test_the_table_is_long() -> None:
    assert len(ROWS) >= 120


GRAMMAR = [
    b"http://a/", b"url", b"method", b"label", b",", b";", b"\t", b'"', b"\n", b"\r\n", b"\r", b"{", b"}", b"[", b"]",
    b":", b"<urlset>", b"<url>", b"<loc>", b"</loc>", b"</url>", b"</urlset>", b"<opml>", b"<outline xmlUrl='",
    b"'/>", b"&", b"<!DOCTYPE x [", b"<!ENTITY a 'b'>", b"]>", b"<?xml version='1.0' encoding='", b"'?>", b"\xff",
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\\u0000", b"\\ud800", b"1e999", b"-", b"null", b"true", b"#", b" ",
]  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
@given(
    data=st.binary(max_size=200) | st.lists(st.sampled_from(GRAMMAR), max_size=20).map(b"".join), packed=st.booleans()
)
def test_any_bytes_end_in_entries_or_a_named_error(format: str, data: bytes, packed: bool) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(gzipped(data) if packed else data)
        file.flush()
        try:
            entries = list(open_source(file.name, format))
        except SourceError as exc:
            assert str(exc).startswith(f"{file.name}: ")  # noqa: PT017
            return
    for entry in entries:
        assert entry.line >= 1
        assert (entry.target is None) == bool(entry.reason)
        assert entry.value.isprintable()
        assert entry.reason.isprintable()
