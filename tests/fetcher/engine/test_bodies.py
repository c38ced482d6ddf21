"""Bodies in temporary files: written, read again, and gone."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fetcher.engine.bodies import SpilledBody, Spilling
from fetcher.engine.errors import SpillFailed
from tests.support.descriptors import open_files
from tests.support.waiting import until


@pytest.fixture
def body(tmp_path: Path) -> Iterator[SpilledBody]:
    made = SpilledBody(str(tmp_path))
    made.write([b"one, ", b"two, "])
    made.write([b"three"])
    yield made
    made.close()


class TestSpilledBody:
    def test_has_what_was_written_and_its_length(self, body: SpilledBody) -> None:
        assert body.read() == b"one, two, three"
        assert len(body) == 15

    def test_is_read_as_often_as_it_takes_and_in_chunks(self, body: SpilledBody) -> None:
        assert list(body.chunks(6)) == list(body.chunks(6)) == [b"one, t", b"wo, th", b"ree"]
        with body.open() as file:
            assert file.read(3) == b"one"
        assert body.read() == b"one, two, three"

    def test_its_file_has_no_name(self, body: SpilledBody, tmp_path: Path) -> None:
        assert len(open_files(tmp_path)) == 1
        assert list(tmp_path.iterdir()) == []

    def test_closed_it_has_a_length_and_nothing_else(self, body: SpilledBody, tmp_path: Path) -> None:
        body.close()
        body.close()
        assert len(body) == 15
        assert open_files(tmp_path) == []
        with pytest.raises(ValueError, match="closed"):
            body.read()
        with pytest.raises(ValueError, match="closed"):
            body.write([b"more"])

    def test_a_file_that_is_read_outlives_it(self, body: SpilledBody) -> None:
        with body.open() as file:
            body.close()
            assert file.read() == b"one, two, three"

    def test_is_not_closed_in_the_middle_of_a_write(self, body: SpilledBody, tmp_path: Path) -> None:
        """Its descriptor's number might be another file's before the write is over."""
        begun, go_on = threading.Event(), threading.Event()

        def pieces() -> Iterator[bytes]:
            begun.set()
            go_on.wait(10)
            yield b"!"

        with ThreadPoolExecutor() as threads:
            body.writing = threads.submit(body.write, pieces())
            begun.wait(10)
            closing = threads.submit(body.close)
            assert len(open_files(tmp_path)) == 1
            go_on.set()
            closing.result(10)
        assert body.writing.exception() is None
        assert open_files(tmp_path) == []

    def test_second_close_returns_only_after_the_file_is_closed(self, tmp_path: Path) -> None:
        """Giving back a large file takes the system a moment, in which another thread may close it as well."""
        with ThreadPoolExecutor(2) as threads:
            for _ in range(40):
                body = SpilledBody(str(tmp_path))
                body.write([bytes(2**20)] * 32)
                together = threading.Barrier(2)

                def close(body: SpilledBody = body, together: threading.Barrier = together) -> list[str]:
                    together.wait(10)
                    body.close()
                    return open_files(tmp_path)

                assert [closing.result(10) for closing in [threads.submit(close), threads.submit(close)]] == [[], []]


class TestFailures:
    def test_a_folder_that_is_not_there_is_named_with_what_to_do(self, tmp_path: Path) -> None:
        body = SpilledBody(str(tmp_path / "gone"))
        with pytest.raises(SpillFailed) as raised:
            body.write([b"x"])
        assert str(raised.value) == (
            f"a large body cannot be kept in {tmp_path}/gone: No such file or directory; make room there, or name "
            "another folder (FETCHER_SPILL_FOLDER)"
        )
        assert raised.value.errno == errno.ENOENT
        body.close()

    def test_too_many_open_files_is_another_matter(self) -> None:
        told = str(SpillFailed("/tmp", OSError(errno.EMFILE, "Too many open files")))
        assert told.endswith("Too many open files; raise the limit (ulimit -n) or lower --concurrency")


class TestSpilling:
    async def test_leaving_closes_what_nobody_closed(self, tmp_path: Path) -> None:
        async with Spilling(0, str(tmp_path)) as spilling:
            bodies = [await spilling.add(None, [b"x"]) for _ in range(5)]
            bodies[0].close()
            assert len(open_files(tmp_path)) == 4
        assert open_files(tmp_path) == []

    async def test_a_discarded_one_is_closed_soon(self, tmp_path: Path) -> None:
        async with Spilling(0, str(tmp_path)) as spilling:
            spilling.discard(await spilling.add(None, [b"x"]))
            spilling.discard(None)
            await until(lambda: open_files(tmp_path) == [])

    async def test_what_is_added_is_taken_from_the_list(self) -> None:
        async with Spilling(0) as spilling:
            pieces = [b"a", b"b"]
            body = await spilling.add(None, pieces)
            assert pieces == []
            pieces.append(b"c")
            assert await spilling.add(body, pieces) is body
            assert body.read() == b"abc"

    async def test_a_cancelled_write_leaves_nothing_open(self, tmp_path: Path) -> None:
        async with Spilling(0, str(tmp_path)) as spilling:
            adding = [asyncio.ensure_future(spilling.add(None, [b"x" * 2**20] * 8)) for _ in range(20)]
            await asyncio.sleep(0)
            for one in adding:
                one.cancel()
            assert all(isinstance(one, asyncio.CancelledError) for one in await _all(adding))
            await until(lambda: open_files(tmp_path) == [])

    async def test_so_does_one_that_fails(self, tmp_path: Path) -> None:
        async with Spilling(0, str(tmp_path / "gone")) as spilling:
            with pytest.raises(SpillFailed):
                await spilling.add(None, [b"x"])


async def _all(futures: list[asyncio.Task[SpilledBody]]) -> list[object]:
    return list(await asyncio.gather(*futures, return_exceptions=True))
