"""What is read from the origin's log."""

from __future__ import annotations

import pytest

from fetcher.demo.origin import Entry
from tests.cluster import politeness
from tests.cluster.cases import FAULTS, SETUPS, Case, cases, parse_case


def entry(started: float, ended: float | None, host: str = "a", agent: str = "cluster/north/7") -> Entry:
    return Entry("GET", "/ok/1", (("Host", host), ("User-Agent", agent)), 1, started, ended)


@pytest.mark.parametrize(
    ("agent", "sender"),
    [("cluster/north/7", ("north", 7)), ("trawl/0.1", ("", 0)), ("cluster/north", ("", 0)), ("", ("", 0))],
)
def test_a_request_says_who_sent_it(agent, sender):
    assert politeness.sender(entry(0, 1, agent=agent)) == sender


def test_shares_count_the_clusters_only():
    log = [entry(0, 1), entry(1, 2), entry(2, 3, agent="cluster/south/8"), entry(3, 4, agent="trawl/0.1")]
    assert politeness.shares(log) == {"north": 2, "south": 1}


@pytest.mark.parametrize(
    ("entries", "killed", "peak"),
    [
        pytest.param([(0, 1), (1, 2)], {}, 1, id="one after the other"),
        pytest.param([(0, 3), (1, 4), (2, 5)], {}, 3, id="side by side"),
        pytest.param([(0, None), (9, 10)], {}, 2, id="one that did not end"),
        pytest.param([(0, 9), (5, 6)], {7: 4.0}, 1, id="one that nobody waits for since its sender was killed"),
    ],
)
def test_peak_of_a_host(entries, killed, peak):
    assert politeness.peaks([entry(*moments) for moments in entries], killed)["a"] == peak


def test_hosts_have_peaks_of_their_own():
    assert politeness.peaks([entry(0, 2), entry(1, 3, "b")]) == {"a": 1, "b": 1}


def test_gap_is_the_least_between_two_starts_at_a_host():
    log = [entry(5, 6), entry(0, 1), entry(2, 9), entry(2.5, 3, "b")]
    assert politeness.gaps(log) == {"a": (2, log[2])}


@pytest.mark.parametrize(
    ("entries", "pauses"),
    [
        pytest.param([(0, 10)], [0, 0], id="busy all the time"),
        pytest.param([(0, 4), (6, 10)], [0, 2, 0], id="a pause in the middle"),
        pytest.param([(1, 9), (2, 3)], [1, 0, 1], id="before and after"),
        pytest.param([(-5, -1), (3, 20)], [3, 0], id="what was over before does not count"),
    ],
)
def test_pauses_are_when_nothing_is_in_flight(entries, pauses):
    assert politeness.pauses([entry(*moments) for moments in entries], 0, 10) == pauses


def test_every_case_is_written_as_it_is_read():
    planned = [*cases(list(SETUPS), list(FAULTS), 2), Case("sqlite", "kill one", 3, real=True)]
    assert [parse_case(str(case)) for case in planned] == planned


@pytest.mark.parametrize("text", ["", "sqlite", "sqlite/nothing#0", "sqlite/restart redis#0", "sqlite/drain/quick#0"])
def test_what_is_no_case_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011  (not enough values is one as well)
        parse_case(text)
