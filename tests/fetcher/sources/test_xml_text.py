"""The encoding of a document: as declared where that can be, and said where it cannot."""

from __future__ import annotations

import io

import pytest

from fetcher.sources import SourceError
from fetcher.sources.stream import Stream
from fetcher.sources.xml_text import xml_pieces

TEXT = "<a>Gr\xf6\xdfe</a>"


def read(data: bytes) -> tuple[str, list[str]]:
    notes: list[str] = []
    stream = Stream("map", io.BytesIO(data), tell=notes.append)
    return b"".join(xml_pieces(stream)).decode(), notes


@pytest.mark.parametrize("name", ["utf8", "UTF8", "utf_8", "UTF-8 ", "U8", "utf-8"])
def test_every_spelling_of_utf_8_is_read_without_a_word(name: str) -> None:
    assert read(f'<?xml version="1.0" encoding="{name}"?>{TEXT}'.encode()) == (TEXT, [])


@pytest.mark.parametrize("name", ["iso-8859-1", "ISO8859-1", "latin1", "windows-1252", "windows1252", "cp1252"])
def test_so_is_every_spelling_of_a_western_encoding(name: str) -> None:
    assert read(f"<?xml version='1.0' encoding='{name}'?>{TEXT}".encode("cp1252")) == (TEXT, [])


@pytest.mark.parametrize("name", ["utf-16", "UTF-16LE", "utf16", "unicode", "ucs-2", "UTF-32", "utf8mb4", "utf-8-bom"])
def test_a_name_that_is_not_meant_is_read_as_utf_8_with_a_note(name: str) -> None:
    text, notes = read(f'<?xml version="1.0" encoding="{name}"?>{TEXT}'.encode())

    assert text == TEXT
    assert len(notes) == 1
    assert notes[0].startswith("map:1: read as UTF-8, ")
    assert name in notes[0]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["utf-8", "utf-16", "iso-8859-1"])
def test_utf_16_is_read_as_such_whatever_is_declared(encoding: str, name: str) -> None:
    text, notes = read(f'<?xml version="1.0" encoding="{name}"?>{TEXT}'.encode(encoding))

    assert text == TEXT
    assert len(notes) == (encoding != "utf-16")


@pytest.mark.parametrize(
    "name",
    [
        "klingon",
        "hz",
        "rot13",
        "zlib",
        "utf-7",
        "cp037",
        "idna",
        "undefined",
        "",
    ],
)
def test_an_encoding_without_ascii_is_refused(name: str) -> None:
    with pytest.raises(SourceError, match="map: its XML declaration names an encoding that cannot be read"):
        read(f'<?xml version="1.0" encoding="{name}"?>{TEXT}'.encode())


def test_lines_keep_their_numbers_and_notes_name_them() -> None:
    text, notes = read(b'\n\n<?xml version="1.0"\n?>\n<a>\x01\n\xff</a>')

    assert text == "\n\n\n\n<a> \n\ufffd</a>"
    assert [note.partition(": ")[0] for note in notes] == ["map:1", "map:6", "map:5"]
