"""What a run reads, and how it is read on."""

from __future__ import annotations

import json
import os
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.sources import Input, Inputs, SourceError


def url(number: int) -> str:
    return f"http://a.example/{number}"


def urls_of(inputs: Inputs) -> list[str]:
    return [entry.target.url for entry in inputs if entry.target is not None]


class TestNotes:
    def test_are_kept_until_somebody_listens_and_come_once_for_each_file(self, tmp_path: Path) -> None:
        for name in ("a.csv", "b.csv"):
            (tmp_path / name).write_text("url,label\nhttp://a/\n\xa0http://b/\nhttp://c/\n", encoding="utf-8")
        inputs = Inputs([Input.file(str(tmp_path / name)) for name in ("a.csv", "b.csv")])
        notes: list[str] = []
        inputs.listen(notes.append)

        assert [note.partition(": ")[0] for note in notes] == [f"{tmp_path}/a.csv:2", f"{tmp_path}/b.csv:2"]
        assert len(list(inputs)) == 6
        assert [note.partition(": ")[0] for note in notes[2:]] == [f"{tmp_path}/a.csv:3", f"{tmp_path}/b.csv:3"]

    def test_that_cannot_be_shown_stop_nothing(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "a.csv").write_text("url,label\nhttp://a/\n")
        inputs = Inputs([Input.file(str(tmp_path / "a.csv"))])

        def fail(_: str) -> None:
            raise BrokenPipeError

        inputs.listen(fail)
        assert len(list(inputs)) == 1
        assert "showing a note on a source" in caplog.text


class TestInputs:
    @given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=5), data=st.data())
    def test_are_read_on_from_any_entry(self, counts: list[int], data: st.DataObject):
        """However many inputs there are, how long they are, and how often it is interrupted."""
        numbers = iter(range(100))
        parts = [Input.arguments([url(next(numbers)) for _ in range(count)]) for count in counts]
        inputs, found, read = Inputs(parts), [], 0
        dumped = json.loads(json.dumps(inputs.dump()))
        while read < sum(counts):
            some = data.draw(st.integers(1, sum(counts) - read))
            found += [entry.target.url for entry in islice(inputs, some)]
            read += some
            inputs = Inputs.again(dumped, json.loads(json.dumps(inputs.offset(read))), read)
        assert found + urls_of(inputs) == [url(number) for number in range(sum(counts))]

    def test_know_where_each_entry_stands(self):
        inputs = Inputs([Input.arguments([url(1), url(2)]), Input.arguments([]), Input.arguments([url(3)])])
        assert urls_of(inputs) == [url(1), url(2), url(3)]
        assert [inputs.offset(read) for read in (1, 2, 3)] == [
            {"input": 0, "entries": 1}, {"input": 0, "entries": 2}, {"input": 2, "entries": 1},
        ]  # fmt: skip

    def test_are_described(self, tmp_path: Path):
        (tmp_path / "urls.txt").write_text(url(1))
        inputs = Inputs([Input.arguments([url(1)]), Input.file(str(tmp_path / "urls.txt")), Input.file("-")])
        assert inputs.description == f"arguments, {tmp_path / 'urls.txt'}, stdin"

    def test_are_all_opened_before_the_first_is_read(self, tmp_path: Path):
        with pytest.raises(SourceError, match=r"missing\.txt: cannot be read"):
            Inputs([Input.arguments([url(1)]), Input.file(str(tmp_path / "missing.txt"))])

    def test_are_closed_when_reading_ends_early(self, tmp_path: Path):
        (tmp_path / "urls.txt").write_text("\n".join(map(url, range(10))))
        entries = iter(Inputs([Input.file(str(tmp_path / "urls.txt")), Input.file(str(tmp_path / "urls.txt"))]))
        next(entries)
        entries.close()  # an open file would be a ResourceWarning, which is an error here


class TestReadingAgain:
    def test_keeps_the_name_that_was_given(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(tmp_path)
        Path("urls.txt").write_text(url(1))
        dumped = Inputs([Input.file("urls.txt")]).dump()
        monkeypatch.chdir("/")
        assert [entry.source for entry in Inputs.again(dumped, None, 0)] == ["urls.txt"]

    def test_reads_the_format_that_was_given(self, tmp_path: Path):
        (tmp_path / "list.txt").write_text(json.dumps({"url": url(1), "label": "x"}))
        dumped = Inputs([Input.file(str(tmp_path / "list.txt"), "jsonl")]).dump()
        assert [entry.target.label for entry in Inputs.again(dumped, None, 0)] == ["x"]

    def test_what_is_not_utf8_is_kept_in_bytes_for_a_database_refuses_it(self, tmp_path):
        path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")
        Path(path).write_text(url(1))
        given = [Input.file(path), Input.arguments([os.fsdecode(b"http://a.example/\xff"), "http://b.example/\u00e9"])]
        dumped = Inputs(given).dump()
        json.dumps(dumped, ensure_ascii=False).encode()
        assert [Input.load(item) for item in dumped] == given
        assert next(iter(Inputs.again(dumped, None, 0))).source == path

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            ("stdin", "stdin cannot be read a second time"),
            ("pipe", "pipe cannot be read a second time"),
            ("gone", "gone is not there any more"),
            ("changed", "changed has been changed since"),
            ("folder", "folder is not there any more"),
        ],
    )
    def test_is_refused_for_what_is_not_the_same_any_more(self, tmp_path: Path, kind: str, reason: str):
        path = tmp_path / kind
        path.write_text(url(1))
        given = Input.file("-" if kind == "stdin" else str(path))
        match kind:
            case "pipe":
                given.size = given.modified = None
            case "gone":
                path.unlink()
            case "changed":
                path.write_text(url(22))
            case "folder":
                path.unlink()
                path.mkdir()
        dumped = [{"kind": given.kind, "name": given.name, "path": given.path, "size": given.size,
                   "modified": given.modified}]  # fmt: skip
        with pytest.raises(SourceError, match=reason):
            Inputs.again(dumped, None, 0)

    def test_is_refused_where_nothing_is_known_of_the_input(self):
        with pytest.raises(SourceError, match="it cannot be read a second time"):
            Inputs.again([], None, 0)
