"""Files far larger than what is held in memory, fetched from a real server and read back."""

from __future__ import annotations

import hashlib
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client

from fetcher.cli.text import program
from fetcher.models import Body, Result, Run
from tests.support.commands import Called, manage
from tests.support.descriptors import open_files
from tests.support.nginx import Nginx, NginxMissing, running_nginx
from tests.support.processes import unavailable
from tests.support.small_disk import CannotMount, small_disk

MIB = 2**20
OPTIONS = ("--allow-network", "127.0.0.0/8", "--max-body", "64MiB", "--progress", "none")

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Nginx]:
    folder = tmp_path / "served"
    folder.mkdir()
    try:
        with running_nginx(folder, addresses=1) as running:
            yield running
    except NginxMissing as exc:
        unavailable(str(exc))


@pytest.fixture
def spill(tmp_path: Path) -> Path:
    folder = tmp_path / "spill"
    folder.mkdir()
    return folder


def served(server: Nginx, tmp_path: Path, *contents: bytes) -> dict[str, str]:
    """Have files served; returns the SHA-256 of each by its URL."""
    found = {}
    for number, content in enumerate(contents):
        (tmp_path / "served" / f"{number}.bin").write_bytes(content)
        found[server.url(f"/files/{number}.bin")] = hashlib.sha256(content).hexdigest()
    return found


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def text(size: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(size // 8))[:size]


def test_come_back_as_they_were(server, spill, tmp_path):
    """From the command to the API and to an export, whether or not they compress; the same content is kept once."""
    large = noise(20 * MIB)
    files = served(server, tmp_path, large, text(30 * MIB), noise(5 * MIB, 1) + text(5 * MIB), b"small", large)
    env = {"FETCHER_SPILL_FOLDER": str(spill), "MEDIA_ROOT": str(tmp_path / "media")}

    done = manage("fetch_urls", *files, *OPTIONS, env=env)

    assert (done.returncode, done.stderr) == (0, "")
    assert list(spill.iterdir()) == []
    results = {result.target.url: result for result in Result.objects.select_related("target")}
    assert {url: result.representation.body.sha256.hex() for url, result in results.items()} == files
    assert [result.bytes for _, result in sorted(results.items())] == [20 * MIB, 30 * MIB, 10 * MIB, 5, 20 * MIB]
    assert Body.objects.count() == 4

    done = manage("export_run", "latest", "--bodies", str(tmp_path / "exported"), env=env)
    assert done.returncode == 0
    exported = [path.read_bytes() for path in (tmp_path / "exported").glob("*.bin")]
    assert {hashlib.sha256(content).hexdigest() for content in exported} == set(files.values())


def test_are_served_as_they_were(server, spill, tmp_path, settings):
    settings.FETCHER_SPILL_FOLDER = str(spill)
    content = noise(3 * MIB) + text(3 * MIB)
    (url,) = served(server, tmp_path, content)

    assert Called(url, *OPTIONS).code == 0

    answer = Client().get(f"/api/v1/results/{Result.objects.get().pk}/body/")
    assert b"".join(answer.streaming_content) == content
    assert open_files(spill) == []


def test_that_are_not_kept_have_their_hash(server, spill, tmp_path, settings):
    settings.FETCHER_SPILL_FOLDER = str(spill)
    (sha256,) = served(server, tmp_path, text(8 * MIB)).values()

    assert Called(server.url("/files/0.bin"), *OPTIONS, "--no-body").code == 0

    body = Body.objects.get()
    assert (body.sha256.hex(), body.size, body.content, body.file) == (sha256, 8 * MIB, None, "")
    assert open_files(spill) == []


def test_that_are_encoded_are_spilled_decoded(threaded_origin, spill, settings):
    settings.FETCHER_SPILL_FOLDER = str(spill)

    assert Called(threaded_origin.url(f"/gzip-bomb?bytes={20 * MIB}"), *OPTIONS).code == 0

    assert Body.objects.get().sha256 == hashlib.sha256(bytes(20 * MIB)).digest()
    assert open_files(spill) == []


def test_are_never_in_memory_together_nor_one_of_them_whole(server, spill, tmp_path, settings):
    settings.FETCHER_SPILL_FOLDER = str(spill)
    files = served(server, tmp_path, *(noise(16 * MIB, seed) + text(16 * MIB) for seed in range(6)))

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        called = Called(*files, *OPTIONS)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()

    assert called.code == 0
    assert {body.size for body in Body.objects.all()} == {32 * MIB}
    assert peak < 32 * MIB


def test_without_room_end_the_run_in_one_line_and_resuming_completes_it(server, tmp_path, settings):
    files = served(server, tmp_path, *(noise(4 * MIB, seed) for seed in range(4)), b"small")
    try:
        with small_disk(tmp_path / "small", 2) as folder:
            settings.FETCHER_SPILL_FOLDER = str(folder)
            called = Called(*files, *OPTIONS)
            assert open_files(folder) == []
    except CannotMount as exc:
        pytest.skip(str(exc))

    run = Run.objects.get()
    assert (called.code, run.state) == (1, "interrupted")
    assert called.err.splitlines() == [
        f"CommandError: run {run.pk}: a large body cannot be kept in {folder}: No space left on device; make room "
        f"there, or name another folder (FETCHER_SPILL_FOLDER). Go on with: {program()} fetch_urls --resume {run.pk}"
    ]
    assert not Result.objects.filter(status="failed").exists()

    del settings.FETCHER_SPILL_FOLDER
    assert Called("--resume", str(run.pk), "--progress", "none").code == 0
    assert Result.objects.filter(status="succeeded").count() == len(files)
