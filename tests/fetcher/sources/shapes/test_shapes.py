"""Files as real programs write them: each is read as its owner expects, or refused with advice that works."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetcher.sources import SourceError, open_source
from tests.fetcher.sources.shapes.of_documents import DOCUMENTS
from tests.fetcher.sources.shapes.of_records import RECORDS
from tests.fetcher.sources.shapes.of_tables import TABLES
from tests.fetcher.sources.shapes.shape import Shape

SHAPES = [*TABLES, *DOCUMENTS, *RECORDS]
ONCE = " (reported once for each file)"


class Told:
    """What reading a file comes to."""

    def __init__(self, path: Path, data: bytes, format: str = "auto") -> None:  # noqa: A002
        self.read: list[str | tuple[str, str]] = []
        self.rejected: list[str] = []
        self.refused = ""
        self.noted: list[str] = []
        path.write_bytes(data)
        try:
            for entry in open_source(str(path), format, name=path.name, tell=self.noted.append):
                if entry.target is None:
                    self.rejected.append(f"{entry.line}: {entry.reason}")
                else:
                    url, label = entry.target.url, entry.target.label
                    self.read.append((url, label) if label else url)
        except SourceError as exc:
            self.refused = str(exc).removeprefix(f"{path.name}: ")


@pytest.mark.parametrize("shape", SHAPES, ids=[shape.program for shape in SHAPES])
def test_a_file_of_a_real_program(tmp_path: Path, shape: Shape) -> None:
    told = Told(tmp_path / shape.name, shape.data)

    assert told.refused == shape.refused
    assert tuple(told.rejected) == shape.rejected
    assert tuple(note.removeprefix(f"{shape.name}:").removesuffix(ONCE).strip() for note in told.noted) == shape.noted
    if shape.mended is None:
        assert tuple(told.read) == shape.read
    else:  # what was read before the mistake is a part of the list
        assert tuple(told.read) == shape.read[: len(told.read)]


ADVISED = [shape for shape in SHAPES if shape.mended is not None]


@pytest.mark.parametrize("shape", ADVISED, ids=[shape.program for shape in ADVISED])
def test_a_file_mended_as_advised_is_read(tmp_path: Path, shape: Shape) -> None:
    name = shape.name if Path(shape.name).suffix not in {".xls", ".xlsx", ".ods"} else "Book1.csv"
    told = Told(tmp_path / name, shape.mended or b"", shape.mended_format)

    assert (told.refused, told.rejected, tuple(told.read)) == ("", [], shape.read)


def test_the_table_is_long() -> None:
    assert len(SHAPES) >= 60
    assert len({shape.program for shape in SHAPES}) == len(SHAPES)
