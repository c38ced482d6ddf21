"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fetcher.exports.files import regular_size, whole_file


class TestWholeFile:
    def test_is_there_when_the_block_ends(self, tmp_path):
        with whole_file(tmp_path / "a") as file:
            file.write(b"all")
            assert not (tmp_path / "a").exists()
        assert [path.name for path in tmp_path.iterdir()] == ["a"]
        assert (tmp_path / "a").read_bytes() == b"all"

    def test_leaves_the_one_from_before_where_the_block_fails(self, tmp_path):
        (tmp_path / "a").write_bytes(b"before")
        with pytest.raises(TypeError), whole_file(tmp_path / "a") as file:
            file.write("no bytes")
        assert [path.name for path in tmp_path.iterdir()] == ["a"]
        assert (tmp_path / "a").read_bytes() == b"before"

    def test_writes_into_a_device_directly(self):
        with whole_file(Path(os.devnull)) as file:
            file.write(b"gone")
        assert not Path(os.devnull).is_file()

    def test_names_the_file_that_was_meant_in_an_error(self, tmp_path):
        with pytest.raises(FileNotFoundError) as caught, whole_file(tmp_path / "none" / "a"):
            pass
        assert caught.value.filename == str(tmp_path / "none" / "a")


def test_regular_size_follows_no_link(tmp_path):
    (tmp_path / "a").write_bytes(b"four")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert [regular_size(tmp_path / name) for name in "abc"] == [4, None, None]
