"""One run from a command's point of view. What needs a process of its own is in the tests of the command."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator

import pytest
from django.core.management.base import CommandError, OutputWrapper

from fetcher.cli.execution import follow
from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import FetchConfig
from fetcher.models import Result
from fetcher.progress import Progress
from fetcher.service import fetch_list
from fetcher.sources import Entry, SourceError
from tests.support.stored import entries

CONFIG = FetchConfig(allowed_networks=(AllowedNetwork.parse("127.0.0.1/32"),))

pytestmark = pytest.mark.django_db(transaction=True)


class Streams:
    def __init__(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()

    def run(self, given: Iterable[Entry], config: FetchConfig = CONFIG, **options) -> Progress:
        return follow(
            lambda listener, control: fetch_list(given, config, listener=listener, control=control),
            stdout=OutputWrapper(self.out),
            stderr=OutputWrapper(self.err),
            **options,
        )


@pytest.fixture
def streams() -> Streams:
    return Streams()


def broken(url: str) -> Iterator[Entry]:
    yield from entries(url)
    raise SourceError("urls.txt: reading stopped after line 1: input/output error")


class TestFollow:
    def test_returns_what_was_done(self, streams, threaded_origin):
        progress = streams.run(entries(threaded_origin.url("/ok/1")))
        assert (progress.done, progress.run) == (1, Result.objects.get().run_id)
        assert streams.err.getvalue() == ""

    @pytest.mark.parametrize("output", ["summary", "json", "ndjson"])
    def test_shows_what_was_fetched_before_it_says_what_is_wrong_with_the_source(
        self, streams, threaded_origin, output
    ):
        with pytest.raises(CommandError, match="reading stopped after line 1") as raised:
            streams.run(broken(threaded_origin.url("/ok/1")), output=output)
        assert raised.value.returncode == 1
        assert Result.objects.count() == 1
        assert streams.out.getvalue()

    def test_prints_each_result_once_as_a_line(self, streams, threaded_origin):
        urls = [threaded_origin.url(f"/ok/{number}") for number in range(20)]
        streams.run(entries(*urls), output="ndjson")
        lines = [json.loads(line) for line in streams.out.getvalue().splitlines()]
        assert sorted(line["url"] for line in lines) == sorted(urls)
        assert {line["id"] for line in lines} == set(Result.objects.values_list("id", flat=True))

    def test_of_many_results_prints_one_document(self, streams, threaded_origin):
        streams.run(entries(*(threaded_origin.url(f"/ok/{n}") for n in range(1100))), output="json")
        assert len({item["id"] for item in json.loads(streams.out.getvalue())["items"]}) == 1100

    def test_says_that_large_bodies_cannot_be_stored(self, streams, threaded_origin, settings, tmp_path):
        (tmp_path / "media").touch()  # a file where the folder should be
        settings.MEDIA_ROOT = str(tmp_path / "media")
        settings.FETCHER_BODY_FILE_THRESHOLD = 10
        with pytest.raises(CommandError, match=r"^run \d+: .*[Nn]ot a directory|File exists"):
            streams.run(entries(threaded_origin.url("/bytes/100")))
