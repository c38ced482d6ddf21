"""Content to rows and files."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from fetcher.bodies import read_body
from fetcher.engine.bodies import SpilledBody
from fetcher.engine.errors import SpillFailed
from fetcher.models import Body
from fetcher.packing import unpack
from fetcher.store.bodies import LARGE, close_all, prepare, prepare_all, save_bodies
from tests.support.descriptors import open_files, spilled
from tests.support.small_disk import CannotMount, small_disk
from tests.support.stored import side_by_side


def save(*contents: bytes, threshold: int = 2**20) -> dict[bytes, int]:
    with transaction.atomic():
        return save_bodies(map(prepare, contents), storage="default", file_threshold=threshold)


class TestPrepare:
    @given(st.binary(max_size=300) | st.binary(max_size=3).map(lambda part: part * 100))
    def test_compresses_only_where_that_makes_it_smaller(self, body):
        content = prepare(body)
        assert content.size == len(body)
        if content.encoding:
            assert len(content.content) < len(body)
            assert unpack(content.content) == body
        else:
            assert content.content == body

    def test_compresses_text(self):
        assert prepare(b"<p>text</p>" * 100).encoding == "zstd"

    def test_leaves_noise_as_it_is(self):
        assert prepare(os.urandom(5000)).encoding == ""

    def test_leaves_what_is_thought_to_be_stored(self):
        body = b"<p>text</p>" * 100
        content = prepare(body, stored={hashlib.sha256(body).digest()})
        assert (content.encoding, content.content) == ("", body)


class TestPrepareAll:
    def test_keeps_the_order_of_large_and_small_bodies(self):
        bodies = [b"small", b"a" * (LARGE + 1), None, b"", b"b" * (LARGE + 2), os.urandom(LARGE + 3), b"last"]
        found = prepare_all(bodies)
        assert [one and one.sha256 for one in found] == [
            None if body is None else hashlib.sha256(body).digest() for body in bodies
        ]
        assert [one and (unpack(one.content) if one.encoding else one.content) for one in found] == bodies

    def test_of_bodies_that_are_not_kept_gives_their_figures(self):
        assert [(one.size, one.content) for one in prepare_all([b"a" * (LARGE + 1)] * 2, keep=False)] == [
            (LARGE + 1, None)
        ] * 2


NOISE = os.urandom(LARGE + 1)
TEXT = b"".join(b"line %d\n" % number for number in range(50_000))
MIXED = NOISE + TEXT


class TestSpilled:
    """Bodies that lie in temporary files, and what compressing makes of them."""

    @pytest.mark.parametrize("body", [NOISE, TEXT, MIXED], ids=["noise", "text", "both"])
    def test_is_prepared_as_the_same_in_memory(self, body, tmp_path):
        with closing(spilled(tmp_path, body)) as file, closing(prepare(file)) as content:
            same = prepare(body)
            assert (content.sha256, content.size, content.encoding) == (same.sha256, same.size, same.encoding)
            stored = content.content.read()
            assert (unpack(stored) if content.encoding else stored) == body

    def test_of_one_that_is_not_kept_gives_its_figures(self, tmp_path):
        with closing(spilled(tmp_path, TEXT)) as file:
            content = prepare(file, keep=False)
            assert (content.sha256, content.size) == (hashlib.sha256(TEXT).digest(), len(TEXT))
            assert content.content is None
            assert len(open_files(tmp_path)) == 1

    def test_one_that_is_thought_to_be_stored_is_not_compressed(self, tmp_path):
        with closing(spilled(tmp_path, TEXT)) as file:
            assert prepare(file, stored={hashlib.sha256(TEXT).digest()}).content is file

    def test_a_very_large_one_that_does_not_shrink_at_first_is_left_as_it_is(self, tmp_path):
        """To find out more it would have to be written a second time."""
        noise = os.urandom(2**20) * 17  # zstd does not look back as far as that
        with closing(spilled(tmp_path, noise + bytes(2**20))) as file:
            assert prepare(file).content is file
        with (
            closing(spilled(tmp_path, noise[: 15 * 2**20] + bytes(4 * 2**20))) as file,
            closing(prepare(file)) as content,
        ):
            assert content.encoding == "zstd"

    def test_what_compressing_made_is_closed_and_the_body_is_not(self, tmp_path):
        with closing(spilled(tmp_path, TEXT)) as file:
            contents = prepare_all([file, None, b"small"])
            assert len(open_files(tmp_path)) == 2
            close_all(contents)
            assert len(open_files(tmp_path)) == 1
            assert file.read() == TEXT

    def test_several_are_prepared_side_by_side_in_order(self, tmp_path):
        bodies = [spilled(tmp_path, TEXT), b"small", spilled(tmp_path, NOISE), TEXT, spilled(tmp_path, MIXED)]
        found = prepare_all(bodies)
        assert [one.sha256 for one in found] == [
            hashlib.sha256(body).digest() for body in (TEXT, b"small", NOISE, TEXT, MIXED)
        ]
        close_all([*found])
        for body in bodies:
            if isinstance(body, SpilledBody):
                body.close()
        assert open_files(tmp_path) == []

    def test_without_room_to_compress_says_so_and_leaves_nothing_open(self, tmp_path):
        try:
            with small_disk(tmp_path / "spill", 1) as folder:
                bodies = [spilled(folder, NOISE), spilled(folder, TEXT[: LARGE + 1]), spilled(folder, NOISE[:-1])]
                with pytest.raises(SpillFailed, match=f"cannot be kept in {folder}: No space left on device"):
                    prepare_all(bodies)
                assert len(open_files(folder)) == len(bodies)
                for body in bodies:
                    body.close()
        except CannotMount as exc:
            pytest.skip(str(exc))


@pytest.mark.django_db
class TestSaveBodies:
    def test_gives_the_row_of_each_hash(self):
        contents = [b"", b"one", b"two" * 200]
        ids = save(*contents)
        assert {bytes(body.sha256): body.pk for body in Body.objects.all()} == ids
        assert [read_body(Body.objects.get(pk=ids[prepare(content).sha256])) for content in contents] == contents

    def test_stores_equal_contents_once(self):
        assert save(b"one", b"one") == save(b"one")
        assert Body.objects.count() == 1

    def test_compresses_what_was_thought_to_be_stored_and_is_not(self):
        body = b"<p>text</p>" * 100
        with transaction.atomic():
            content = prepare(body, stored={hashlib.sha256(body).digest()})
            save_bodies([content], storage="default", file_threshold=2**20)
        row = Body.objects.get()
        assert (row.encoding, read_body(row)) == ("zstd", body)

    def test_of_many_goes_past_a_statements_parameters(self):
        assert len(save(*(b"%d" % number for number in range(1200)))) == 1200

    @pytest.mark.parametrize(
        "content", [os.urandom(5000), b"".join(b"line %d\n" % number for number in range(5000))], ids=["noise", "text"]
    )
    def test_puts_what_is_large_when_stored_into_a_file_once(self, content):
        save(content, threshold=1000)
        save(content, threshold=1000)
        [body] = Body.objects.all()
        assert body.content is None
        assert read_body(body) == content
        folder = body.file.rpartition("/")[0]
        assert len(default_storage.listdir(folder)[1]) == 1

    def test_uses_the_file_that_a_crash_left(self):
        content = os.urandom(5000)
        save(content, threshold=1000)
        [body] = Body.objects.all()
        body.delete()
        save(content, threshold=1000)
        assert Body.objects.get().file == body.file

    def test_does_not_trust_a_file_that_was_written_in_part(self):
        content = os.urandom(5000)
        name = prepare(content).sha256.hex()
        default_storage.save(f"bodies/{name[:2]}/{name[2:4]}/{name}", ContentFile(content[:100]))
        save(content, threshold=1000)
        assert read_body(Body.objects.get()) == content


@pytest.mark.django_db
class TestSaveSpilledBodies:
    def save(self, folder: Path, *contents: bytes, threshold: int = 2**20, **options: Any) -> dict[bytes, int]:
        files = [spilled(folder, content) for content in contents]
        prepared = [prepare(file, **options) for file in files]
        try:
            with transaction.atomic():
                return save_bodies(prepared, storage="default", file_threshold=threshold)
        finally:
            close_all(prepared)
            for file in files:
                file.close()

    @pytest.mark.parametrize("body", [NOISE, TEXT, MIXED], ids=["noise", "text", "both"])
    @pytest.mark.parametrize(("threshold", "in_a_file"), [(1000, True), (2**20, False)])
    def test_goes_where_its_size_when_stored_belongs(self, body, threshold, in_a_file, tmp_path, settings):
        settings.MEDIA_ROOT = tmp_path / "media"
        self.save(tmp_path, body, threshold=threshold)
        row = Body.objects.get()
        assert bool(row.file) is in_a_file
        assert (row.content is None) is in_a_file
        assert (row.size, read_body(row)) == (len(body), body)

    def test_is_the_same_body_as_one_from_memory(self, tmp_path):
        assert save(TEXT) == self.save(tmp_path, TEXT, TEXT)
        assert self.save(tmp_path, NOISE, threshold=1000) == save(NOISE, threshold=1000)
        assert Body.objects.count() == 2

    def test_that_was_thought_to_be_stored_and_is_not_is_compressed(self, tmp_path):
        self.save(tmp_path, TEXT, stored={hashlib.sha256(TEXT).digest()})
        row = Body.objects.get()
        assert (row.encoding, read_body(row)) == ("zstd", TEXT)
        assert open_files(tmp_path) == []

    def test_fills_in_what_only_the_hash_was_kept_of(self, tmp_path):
        self.save(tmp_path, TEXT, keep=False)
        assert Body.objects.get().content is None
        self.save(tmp_path, TEXT)
        assert read_body(Body.objects.get()) == TEXT

    def test_uses_the_file_that_a_crash_left_and_none_that_was_written_in_part(self, tmp_path, settings):
        settings.MEDIA_ROOT = tmp_path / "media"
        self.save(tmp_path, NOISE, threshold=1000)
        row = Body.objects.get()
        row.delete()
        self.save(tmp_path, NOISE, threshold=1000)
        assert Body.objects.get().file == row.file
        Body.objects.all().delete()
        os.truncate(default_storage.path(row.file), 100)
        self.save(tmp_path, NOISE, threshold=1000)
        assert read_body(Body.objects.get()) == NOISE


@pytest.mark.django_db(transaction=True)
def test_processes_side_by_side_store_a_body_once_and_do_not_deadlock():
    contents = [b"%d" % number for number in range(200)]
    found = side_by_side(*(partial(save, *ordered) for ordered in (contents, contents[::-1], contents[100:])))
    assert Body.objects.count() == 200
    assert found[0] == found[1]


@pytest.mark.django_db
class TestHashOnly:
    def only_hash(self, *contents: bytes) -> dict[bytes, int]:
        with transaction.atomic():
            return save_bodies(
                [prepare(content, keep=False) for content in contents], storage="default", file_threshold=2**20
            )

    def test_a_body_that_is_not_kept_has_its_figures(self):
        [pk] = self.only_hash(b"content").values()
        body = Body.objects.get(pk=pk)
        assert (body.size, body.content, body.file) == (7, None, "")

    def test_content_is_added_once_it_is_to_be_kept(self):
        assert self.only_hash(b"content") == save(b"content")
        assert read_body(Body.objects.get()) == b"content"

    def test_a_large_one_as_a_file(self, settings, tmp_path):
        settings.MEDIA_ROOT = tmp_path
        self.only_hash(b"content")
        save(b"content", threshold=3)
        body = Body.objects.get()
        assert body.file
        assert read_body(body) == b"content"

    def test_content_that_is_stored_stays(self):
        save(b"content")
        self.only_hash(b"content")
        assert read_body(Body.objects.get()) == b"content"
