"""What a run over a list would do."""

from __future__ import annotations

import msgspec
import pytest

from fetcher import preview as module
from fetcher.engine.config import ConfigError, FetchConfig
from fetcher.engine.references import EnvReference
from fetcher.models import Run, Target
from fetcher.options import RunOptions
from fetcher.preview import preview
from tests.support.stored import entries, fetch

ETAG = (("ETag", '"1"'),)
URLS = ("http://a.example/1", "http://a.example/2", "http://b.example/1")

pytestmark = pytest.mark.django_db


def test_counts_targets_duplicates_and_rejected_lines():
    seen = []
    found = preview(entries(*URLS, URLS[0], "no url"), FetchConfig(), rejected=seen.append)
    assert (found.targets, found.duplicates, found.rejected, found.hosts) == (3, 1, 1, 2)
    assert [entry.line for entry in seen] == [5]


def test_saves_nothing():
    preview(entries(*URLS), FetchConfig())
    assert not Run.objects.exists()
    assert not Target.objects.exists()


def test_the_busiest_host_comes_first():
    found = preview(entries(*URLS), FetchConfig())
    assert [(host.host, host.targets) for host in found.busiest] == [("a.example:80", 2), ("b.example:80", 1)]


def test_only_so_many_hosts_are_told_apart():
    found = preview(entries(*(f"http://h{number}.example/" for number in range(50))), FetchConfig())
    assert found.hosts == 50
    assert len(found.busiest) == module.BUSIEST


def test_knows_what_succeeded_before_and_what_may_cost_a_304():
    fetch(URLS[0], headers=ETAG)
    fetch(URLS[1])
    found = preview(entries(*URLS), FetchConfig())
    assert (found.known, found.conditional) == (2, 1)
    assert found.busiest[0].conditional == 1


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (FetchConfig(), RunOptions(conditional=False)),
        (FetchConfig(headers=(("If-None-Match", "*"),)), RunOptions()),
        (FetchConfig(headers=(("Authorization", "other"),)), RunOptions()),
        (FetchConfig(), RunOptions(method="POST")),
    ],
)
def test_counts_no_conditional_request_where_none_would_be_sent(config, options):
    fetch(URLS[0], headers=ETAG)
    assert preview(entries(URLS[0]), config, options).conditional == 0


def test_the_bound_is_the_busiest_hosts():
    urls = [f"http://a.example/{number}" for number in range(101)]
    found = preview(entries(*urls, "http://b.example/"), FetchConfig(host_delay=2))
    assert found.at_least == pytest.approx(200)
    assert found.estimate is None


def test_the_estimate_rests_on_earlier_results():
    fetch(*URLS, elapsed=2.0)
    found = preview(entries(*URLS, "http://c.example/"), FetchConfig(per_host=1))
    assert (found.samples, found.sampled_hosts) == (3, 2)
    assert found.estimate == pytest.approx(4)
    assert found.at_least == pytest.approx(4)


def test_looks_at_a_bounded_number_of_earlier_results(monkeypatch):
    monkeypatch.setattr(module, "_SAMPLE", 1)
    fetch(*URLS)
    assert preview(entries(*URLS), FetchConfig()).samples == 2
    monkeypatch.setattr(module, "_SAMPLES", 1)
    assert preview(entries(*URLS), FetchConfig()).samples == 1


def test_finds_duplicates_far_apart():
    urls = [f"http://a.example/{number}" for number in range(module._BATCH + 1)]
    assert preview(entries(*urls, *urls), FetchConfig()).duplicates == len(urls)


def test_targets_that_differ_in_a_header_alone_are_no_duplicates():
    [entry] = entries(URLS[0])
    other = msgspec.structs.replace(entry, target=msgspec.structs.replace(entry.target, headers=(("Cookie", "a"),)))
    assert preview([entry, other], FetchConfig()).targets == 2


def test_needs_the_variables_that_a_run_would():
    with pytest.raises(ConfigError, match="TRAWL_TEST_UNSET"):
        preview([], FetchConfig(headers=(("Cookie", EnvReference("TRAWL_TEST_UNSET")),)))
