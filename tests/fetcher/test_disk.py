"""Room on the disks: what is foreseen, and what is kept in reserve."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connection

from fetcher import disk
from fetcher.conf import fetcher_settings
from fetcher.disk import DiskNearlyFull, DiskWatch
from fetcher.engine.types import Attempt
from fetcher.store import leases
from fetcher.store.record import Recorder
from tests.support.packing import gzipped
from tests.support.stored import open_targets, outcome, plan

MIB = 2**20


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class TestAWatch:
    def test_is_content_with_as_much_as_the_reserve(self, tmp_path):
        DiskWatch([tmp_path], 64 * MIB, free=lambda folder: 64 * MIB).check()

    def test_names_the_folder_what_is_left_and_the_setting(self, tmp_path):
        with pytest.raises(DiskNearlyFull) as raised:
            DiskWatch([tmp_path], 64 * MIB, free=lambda folder: 60 * MIB).check()
        assert str(raised.value) == (
            f"the disk of {tmp_path} is nearly full: 60 MiB are left, and 64 MiB are kept in reserve "
            "(FETCHER_DISK_RESERVE); make room there"
        )

    def test_looks_once_a_second(self, tmp_path):
        looks, clock = [], Clock()

        def free(folder: Path) -> int:
            looks.append(clock.now)
            return MIB

        watch = DiskWatch([tmp_path], 1, free=free, clock=clock)
        for _ in range(50):
            watch.look()
            clock.now += 0.125
        assert looks == [100, 101, 102, 103, 104, 105, 106]

    def test_looks_at_each_disk_once(self, tmp_path):
        looks = []
        (tmp_path / "other").mkdir()
        DiskWatch([tmp_path, tmp_path / "other"], 1, free=lambda folder: looks.append(folder) or MIB).check()
        assert looks == [tmp_path]

    def test_never_looks_without_a_reserve(self, tmp_path):
        watch = DiskWatch([tmp_path], 0, free=lambda folder: 0)
        watch.check()
        watch.look()


class TestARunsFolders:
    def test_are_the_databases_and_the_bodies(self, settings, tmp_path):
        settings.MEDIA_ROOT = tmp_path / "media" / "that is made later"
        settings.FETCHER_DISK_RESERVE = 2**62
        assert disk.body_folder() == tmp_path
        with pytest.raises(DiskNearlyFull):
            DiskWatch.of_run().check()

    def test_of_a_storage_elsewhere_are_none(self, settings):
        settings.STORAGES = {"default": {"BACKEND": "django.core.files.storage.Storage"}}
        assert disk.body_folder() is None

    def test_are_not_the_bodies_where_these_are_not_kept(self, settings):
        settings.FETCHER_DISK_RESERVE = 2**62
        watch = DiskWatch.of_run(keeps_bodies=False)
        if connection.vendor == "sqlite":
            with pytest.raises(DiskNearlyFull, match=str(Path(connection.settings_dict["NAME"]).parent)):
                watch.check()
        else:
            watch.check()


class TestUrlsInAList:
    @pytest.mark.parametrize(
        ("content", "urls"),
        [
            (b"http://a.example/\n" * 50, 50),
            (b"# comment\n\n" + b"http://a.example/\n" * 2, 2),
            (b"http://a.example/12345\n" * 100_000, 100_000),
            (b"<urlset>" + b"<url><loc>http://a.example/</loc></url>" * 30 + b"</urlset>", 30),
            (b'<opml><outline xmlUrl="http://a.example/"/>' + b'<outline xmlUrl="http://b.example/"/></opml>', 2),
            (b"", 0),
        ],
        ids=["lines", "comments", "long", "sitemap", "opml", "empty"],
    )
    def test_are_judged_by_its_beginning(self, tmp_path, content, urls):
        (tmp_path / "list").write_bytes(content)
        assert disk.urls_in([tmp_path / "list"]) == pytest.approx(urls, rel=0.01)

    def test_of_a_packed_list_are_a_part_at_least(self, tmp_path):
        lines = "".join(f"http://a.example/{number * 7919 % 1_000_003}\n" for number in range(100_000))
        (tmp_path / "list.gz").write_bytes(gzipped(lines.encode()))
        assert 20_000 < disk.urls_in([tmp_path / "list.gz"]) <= 100_000

    @pytest.mark.parametrize("content", [b"\x1f\x8b", b"\x1f\x8b\x08\0" + b"\0" * 6 + b"damaged"])
    def test_of_a_damaged_list_are_none(self, tmp_path, content):
        (tmp_path / "list.gz").write_bytes(content)
        assert disk.urls_in([tmp_path / "list.gz", tmp_path / "missing"]) == 0


class TestForesight:
    @pytest.fixture(autouse=True)
    def _on_sqlite(self):
        if connection.vendor != "sqlite":
            pytest.skip("a server's disk is its own to watch")

    def test_warns_where_a_list_will_not_fit(self, settings):
        settings.FETCHER_DISK_RESERVE = 10 * MIB
        urls = 2 * disk.free_bytes(Path(connection.settings_dict["NAME"]).parent) // disk.NEW_BYTES
        assert "the run stops" not in (disk.shortage(urls // 4) or "")
        assert disk.shortage(urls // 4) is None
        assert f"about {urls:,} URLs take at least" in (disk.shortage(urls) or "")
        assert disk.shortage(urls // 4, known=urls // 4) is None

    def test_says_nothing_without_a_reserve(self, settings):
        settings.FETCHER_DISK_RESERVE = 0
        assert disk.shortage(10**15) is None

    @pytest.mark.django_db
    def test_is_a_bound_from_below_and_not_far_from_it(self):
        before, number = _size(), 10_000
        run = plan(*(f"http://h{place % 256}.example/{place:010}" for place in range(number)))
        worker = leases.register_worker()
        leases.lease_lanes(run, worker)
        recorder = Recorder(run, worker, fetcher_settings(), keep_bodies=False)
        headers = (("Content-Type", "text/html"), ("Server", "nginx"), ("Date", "Tue, 21 Nov 2026 10:00:00 GMT"))
        outcomes = [
            outcome(target, headers=headers, body=target.url.encode(), attempts=(Attempt(1, 1_700_000_000.0, 0.01),))
            for target in open_targets(run)
        ]
        for start in range(0, number, 500):
            recorder.record(outcomes[start : start + 500])
        each = (_size() - before) / number
        assert disk.NEW_BYTES <= each < 1.5 * disk.NEW_BYTES


def _size() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count,"
                       " pragma_page_size")  # fmt: skip
        return cursor.fetchone()[0]
