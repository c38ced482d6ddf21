"""Bodies as files under safe names."""

from __future__ import annotations

import hashlib

import pytest

from fetcher.exports.bodies import BodyFolder, extension
from fetcher.exports.rows import result_pages
from tests.rows import make_body, make_result, make_run, zlib_body


@pytest.mark.parametrize(
    ("content_type", "found"),
    [
        ("text/html; charset=utf-8", ".html"),
        ("application/json", ".json"),
        ("IMAGE/PNG", ".png"),
        ("text/plain", ".txt"),
        (None, ".bin"),
        ("", ".bin"),
        ("../../etc/passwd", ".bin"),
        ("application/x-nobody-knows", ".bin"),
    ],
)
def test_extension_is_a_known_one(content_type, found):
    assert extension(content_type) == found


@pytest.mark.django_db
class TestBodyFolder:
    @pytest.fixture
    def problems(self) -> list[str]:
        return []

    @pytest.fixture
    def folder(self, tmp_path, problems) -> BodyFolder:
        return BodyFolder(tmp_path, unavailable=problems.append)

    def add(self, folder, run):
        return [line for items in result_pages(run.pk) for line in folder.add(items)]

    def test_writes_each_content_once(self, folder, tmp_path):
        run, body = make_run(), zlib_body(b"<p>" * 100)
        for number in range(2):
            make_result(run, f"https://example.com/{number}", body=body, content_type="text/html")
        lines = self.add(folder, run)
        name = f"{hashlib.sha256(b'<p>' * 100).hexdigest()}.html"
        assert [line.file for line in lines] == [name, name]
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"<p>" * 100)]
        assert (folder.written, folder.kept) == (1, 1)

    def test_has_a_line_for_a_result_without_a_body(self, folder):
        run = make_run()
        make_result(run, status="failed")
        [line] = self.add(folder, run)
        assert (line.status, line.file) == ("failed", None)

    def test_has_no_file_where_only_the_hash_was_kept(self, folder, tmp_path):
        run = make_run()
        make_result(run, body=make_body(b"x", content=None))
        [line] = self.add(folder, run)
        assert line.file is None
        assert line.body_sha256 is not None
        assert list(tmp_path.iterdir()) == []

    def test_writes_anew_what_has_the_wrong_size(self, folder, tmp_path):
        run = make_run()
        make_result(run, body=make_body(b"whole"), content_type="text/plain")
        path = tmp_path / f"{hashlib.sha256(b'whole').hexdigest()}.txt"
        path.write_bytes(b"who")
        self.add(folder, run)
        assert path.read_bytes() == b"whole"

    def test_replaces_a_link_and_leaves_alone_where_it_points(self, folder, tmp_path, tmp_path_factory):
        outside = tmp_path_factory.mktemp("outside") / "file"
        outside.write_bytes(b"mine!")
        run = make_run()
        make_result(run, body=make_body(b"whole"), content_type="text/plain")
        path = tmp_path / f"{hashlib.sha256(b'whole').hexdigest()}.txt"
        path.symlink_to(outside)
        self.add(folder, run)
        assert outside.read_bytes() == b"mine!"
        assert (path.is_symlink(), path.read_bytes()) == (False, b"whole")

    def test_tells_of_a_body_that_cannot_be_read(self, folder, problems, tmp_path):
        run = make_run()
        make_result(run, body=make_body(b"x" * 9, content=None, file="bodies/gone"))
        [line] = self.add(folder, run)
        assert line.file is None
        assert "bodies/gone" in problems[0]
        assert list(tmp_path.iterdir()) == []
