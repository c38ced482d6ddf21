"""CSV: columns by name, any delimiter, quoted fields, and rows that are broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetcher.engine.types import Target
from fetcher.sources import SourceError, open_source
from fetcher.sources.csv_rows import find_columns
from tests.support.sources import brief, read, targets


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "list.csv"


class TestColumns:
    @pytest.mark.parametrize(
        "data",
        [
            b"url,label\nhttp://a/,7\n",
            b"label;url\n7;http://a/\n",
            b"id\turl\tlabel\r\n1\thttp://a/\t7\r\n",
            b"label|x, y; z|url\n7||http://a/",
            b" URL , Label \nhttp://a/, 7 \n",
            b'"url","label"\n"http://a/","7"\n',
            b"\xef\xbb\xbfurl,label\nhttp://a/,7\n",
            "url;label\nhttp://a/;7\n".encode("utf-16"),
            b"sep=;\r\nurl;label\r\nhttp://a/;7\r\n",
            b"\n \nurl,label\n\nhttp://a/,7\n\n",
            b'url,label,"more, and; more"\nhttp://a/,7,\n',
        ],
    )
    def test_are_found_by_name_whatever_the_delimiter(self, path: Path, data: bytes) -> None:
        assert targets(read(path, data)) == [Target("http://a/", "a:80", label="7")]

    def test_all_of_them(self, path: Path) -> None:
        data = (
            b"id,url,method,headers,body,label,retry\n"
            b'1,http://a/,post,"{""Accept"": ""text/html""}","a ""b"",\nc",x,yes\n'
            b'2,http://b/,,"[[""A"",""1""],[""A"",""2""]]",,,\n'
        )

        assert targets(read(path, data)) == [
            Target("http://a/", "a:80", "POST", (("Accept", "text/html"),), b'a "b",\nc', label="x", retry=True),
            Target("http://b/", "b:80", headers=(("A", "1"), ("A", "2"))),
        ]

    @pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes"])
    def test_retry_may_be_written_in_several_ways(self, path: Path, text: str) -> None:
        assert targets(read(path, f"url,retry\nhttp://a/,{text}\n".encode()))[0].retry

    def test_the_url_alone_is_enough(self, path: Path) -> None:
        assert brief(read(path, b'url\nhttp://a/\n"http://b/?x,y"\n')) == [(2, "http://a/"), (3, "http://b/?x,y")]

    @pytest.mark.parametrize(
        ("line", "delimiter"),
        [("a,url;b", ","), ("url;label,x", ";"), ("url;label;a,b", ";"), ("url\tlabel,x\tb", "\t"), ("x", ","),
         ("", ",")],
    )  # fmt: skip
    def test_the_delimiter_is_the_one_that_finds_most_of_them(self, line: str, delimiter: str) -> None:
        assert find_columns(line)[0] == delimiter

    @pytest.mark.parametrize(
        ("data", "error"),
        [
            (b"", "is empty; its first row must name the columns, one of them url"),
            (b"id,link\n1,http://a/\n", r"has no column url \(found: id, link\); call the column with the URLs url"),
            (b"id,,link\n", r"has no column url \(found: id, \(no name\), link\)"),
            (b",".join([b"c"] * 30), r"found: (c, ){20}…"),
            (b"http://a/,1\n", "has no header row; its first row must name the columns"),
            (b"url,x,Url\n", "has 2 columns called url; keep one"),
            (b"url,label,label\n", "has 2 columns called label; keep one"),
            (b"url,x\rhttp://a/,1\r", "has a carriage return inside its header row"),
        ],
    )
    def test_without_a_usable_header_row_that_is_said(self, path: Path, data: bytes, error: str) -> None:
        with pytest.raises(SourceError, match=error):
            read(path, data)


class TestRows:
    def test_line_numbers_are_where_a_row_begins(self, path: Path) -> None:
        data = b'url,body\nhttp://a/,"1\n2\r\n\n3"\n\nhttp://b/,x\nc,x\n'

        assert brief(read(path, data)) == [(2, "http://a/"), (7, "http://b/"), (8, "[is not a URL]")]

    def test_a_row_of_another_width_is_rejected_and_shows_its_url(self, path: Path) -> None:
        entries = read(path, b"id,url\n1,http://a/,2\n1\n2,http://b/\n")

        assert [(entry.line, entry.value, entry.target is None) for entry in entries] == [
            (2, "http://a/", True),
            (3, "", True),
            (4, "", False),
        ]
        assert entries[0].reason.startswith("columns: 3, where the header row has 2")

    def test_invalid_utf_8_matters_only_in_a_column_that_is_used(self, path: Path) -> None:
        assert brief(read(path, b"url,name,label\nhttp://a/,\xe9,x\nhttp://b/,x,\xe9\n")) == [
            (2, "http://a/"),
            (3, "[label: is not valid UTF-8]"),
        ]

    @pytest.mark.parametrize(
        ("row", "reason", "next_line"),
        [
            (b'http://b/,"x"y', "a quotation mark stands inside a quoted field; double it", 3),
            (b'http://b/,"x"y"\nz"', "a quotation mark stands inside a quoted field; double it", 4),
            (b"http://b/,x\ry", "has a carriage return in the middle; lines end with LF or CRLF", 3),
            (b"http://b/," + b"x" * 140_000, "a field is longer than CSV allows here (131072 characters); "
             "write this one as JSON lines", 3),
            (b'http://b/,"' + b"x\n" * 70_000 + b'"', "a field is longer than CSV allows here (131072 characters); "
             "write this one as JSON lines", 70_003),
            (b"http://b/," + b"x" * 2**21, "longer than 1048576 bytes", 3),
            (b'http://b/,"' + b"x" * 2**21 + b'"', "longer than 1048576 bytes", 3),
        ],
    )  # fmt: skip
    def test_a_broken_one_is_rejected_and_the_next_is_read(
        self, path: Path, row: bytes, reason: str, next_line: int
    ) -> None:
        assert brief(read(path, b"url,body\n" + row + b"\nhttp://c/,x\n")) == [
            (2, f"[{reason}]"),
            (next_line, "http://c/"),
        ]

    @pytest.mark.parametrize(
        "rest",
        [
            b'http://b/,"x\nhttp://c/,y\n',
            b'http://b/,"x"y"\nhttp://c/,y\n',
            b'http://b/,"' + b"x" * 2**21 + b"\nhttp://c/,y\n",
            b'http://b/,"' + b"http://c/,y\n" * 2**17,
        ],
    )
    def test_after_a_quote_that_never_closes_nothing_is_taken_for_a_row(self, path: Path, rest: bytes) -> None:
        path.write_bytes(b"url,body\nhttp://a/,x\n" + rest)
        entries = open_source(str(path))
        assert next(entries).line == 2
        with pytest.raises(SourceError, match="reading stopped in the row that begins in line 3: a quoted field"):
            next(entries)
