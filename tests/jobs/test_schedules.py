"""When a job is due, and which schedules are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from croniter import croniter

from jobs.schedules import (
    MOST_MINUTES,
    Kind,
    Schedule,
    ScheduleError,
    is_due,
    next_times,
    parse_at,
    parse_cron,
    parse_every,
    parse_weekday,
)

BERLIN = "Europe/Berlin"


def every(minutes: int) -> Schedule:
    return Schedule(kind=Kind.EVERY, every=minutes)


def daily(at: str, zone: str = "UTC") -> Schedule:
    return Schedule(kind=Kind.DAILY, at=at, time_zone=zone)


def weekly(weekday: int, at: str, zone: str = "UTC") -> Schedule:
    return Schedule(kind=Kind.WEEKLY, weekday=weekday, at=at, time_zone=zone)


def cron(expression: str, zone: str = "UTC") -> Schedule:
    return Schedule(kind=Kind.CRON, cron=expression, time_zone=zone)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# In 2026 Berlin's clocks go from 02:00 to 03:00 on 29 March, and back on 25 October, both times at 01:00 UTC.
CASES = {
    "none": (Schedule(), "2026-01-01T00:00", []),
    "every, at the quarters": (every(15), "2026-01-01T12:07", ["2026-01-01T12:15", "2026-01-01T12:30"]),
    "every, on the dot it is the next": (every(15), "2026-01-01T12:15", ["2026-01-01T12:30"]),
    "every day is midnight UTC": (every(1440), "2026-01-01T12:00", ["2026-01-02T00:00", "2026-01-03T00:00"]),
    "daily, still today": (daily("06:30"), "2026-01-01T06:29", ["2026-01-01T06:30", "2026-01-02T06:30"]),
    "daily, not at the same moment again": (daily("06:30"), "2026-01-01T06:30", ["2026-01-02T06:30"]),
    "daily, by another clock": (daily("06:30", "Asia/Tokyo"), "2026-01-01T00:00", ["2026-01-01T21:30"]),
    "daily, over the change to summer time": (
        daily("06:30", BERLIN), "2026-03-28T00:00", ["2026-03-28T05:30", "2026-03-29T04:30", "2026-03-30T04:30"],
    ),
    "daily, passed over by the clocks: an hour later": (
        daily("02:30", BERLIN), "2026-03-28T12:00", ["2026-03-29T01:30", "2026-03-30T00:30"],
    ),
    "daily, twice by the clocks: the first": (
        daily("02:30", BERLIN), "2026-10-24T12:00", ["2026-10-25T00:30", "2026-10-26T01:30"],
    ),
    "daily, between the two": (daily("02:30", BERLIN), "2026-10-25T00:30", ["2026-10-26T01:30"]),
    "weekly": (weekly(0, "09:00"), "2026-01-01T00:00", ["2026-01-05T09:00", "2026-01-12T09:00"]),
    "weekly, on Sundays": (weekly(6, "09:00"), "2026-01-01T00:00", ["2026-01-04T09:00"]),
    "cron": (cron("*/20 8-9 * * mon-fri"), "2026-01-02T09:39", ["2026-01-02T09:40", "2026-01-05T08:00"]),
    "cron, months that have a 31st": (
        cron("0 0 31 * *"), "2026-01-31T00:00", ["2026-03-31T00:00", "2026-05-31T00:00"],
    ),
    "cron, the last day of each month": (
        cron("0 0 l * *"), "2026-01-15T00:00", ["2026-01-31T00:00", "2026-02-28T00:00", "2026-03-31T00:00"],
    ),
    "cron, leap days": (cron("0 0 29 2 *"), "2026-01-01T00:00", ["2028-02-29T00:00", "2032-02-29T00:00"]),
    "cron, each half hour while the clocks go forward": (
        cron("*/30 * * * *", BERLIN), "2026-03-29T00:15",
        ["2026-03-29T00:30", "2026-03-29T01:00", "2026-03-29T01:30", "2026-03-29T02:00"],
    ),
    "cron, each half hour while they go back": (
        cron("*/30 * * * *", BERLIN), "2026-10-24T23:45",
        ["2026-10-25T00:00", "2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30", "2026-10-25T02:00"],
    ),
    "cron, asked between the two": (cron("15 * * * *", BERLIN), "2026-10-25T00:50", ["2026-10-25T01:15"]),
    "cron, a fixed hour that comes twice": (
        cron("15 2 * * *", BERLIN), "2026-10-24T23:45", ["2026-10-25T00:15", "2026-10-26T01:15"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("schedule", "after", "times"), CASES.values(), ids=CASES)
def test_next_times(schedule, after, times):
    assert next_times(schedule, utc(after), len(times) or 1) == [utc(time) for time in times]


@pytest.mark.parametrize("schedule", [every(7), daily("02:30", BERLIN), cron("*/20 * * * *", BERLIN)], ids=str)
@pytest.mark.parametrize("day", ["2026-03-28T12:00", "2026-10-24T12:00"])
def test_asking_one_by_one_gives_the_same_times(schedule, day):
    times = next_times(schedule, utc(day), 60)
    assert times == sorted(set(times))
    found = utc(day)
    for time in times:
        [found] = next_times(schedule, found, 1)
        assert found == time


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Schedule(), "none"),
        (every(15), "every 15 minutes"),
        (every(60), "every hour"),
        (every(2880), "every 2 days"),
        (daily("06:30", BERLIN), "daily at 06:30 (Europe/Berlin)"),
        (weekly(0, "09:00"), "on Mondays at 09:00 (UTC)"),
        (cron("* * * * *"), "cron * * * * * (UTC)"),
    ],
)
def test_in_words(schedule, words):
    assert str(schedule) == words


REFUSED = {
    "an interval of nought": (lambda: parse_every("0m"), "every", "nought"),
    "an interval without a unit": (lambda: parse_every("15"), "every", "15m, 2h or 1d"),
    "an interval with a part of a minute": (
        lambda: parse_every("90s"),
        "every",
        "whole minutes, such as 15m, not '90s'",
    ),
    "an interval below nought": (lambda: parse_every("-5m"), "every", "15m, 2h or 1d"),
    "an interval that no column takes": (lambda: every(MOST_MINUTES + 1), "every", "at most"),
    "no interval": (lambda: Schedule(kind=Kind.EVERY), "every", "at least"),
    "25 o'clock": (lambda: parse_at("25:00"), "at", "06:30"),
    "sixty minutes": (lambda: parse_at("10:60"), "at", "06:30"),
    "no time": (lambda: Schedule(kind=Kind.DAILY), "at", "06:30"),
    "no such day": (lambda: parse_weekday("moon"), "weekday", "mon, tue"),
    "the eighth day": (lambda: weekly(7, "09:00"), "weekday", "from 0"),
    "no such time zone": (lambda: daily("09:00", "Mars/Olympus"), "time_zone", "'Mars/Olympus'"),
    "no time zone": (lambda: daily("09:00", ""), "time_zone", "there is no"),
    "a folder as time zone": (lambda: daily("09:00", "../etc"), "time_zone", "there is no"),
    "four fields": (lambda: parse_cron("* * * *"), "cron", "4 fields, not five: minute, hour"),
    "six fields": (lambda: parse_cron("* * * * * *"), "cron", "6 fields"),
    "nothing": (lambda: parse_cron(""), "cron", "0 fields"),
    "minute 61": (lambda: parse_cron("61 * * * *"), "cron", "'61' cannot be read as minute (field 1"),
    "hour 24": (lambda: parse_cron("0 24 * * *"), "cron", "'24' cannot be read as hour (field 2"),
    "day 32": (lambda: parse_cron("0 0 32 * *"), "cron", "'32' cannot be read as day of month (field 3"),
    "month foo": (lambda: parse_cron("0 0 1 foo *"), "cron", "'foo' cannot be read as month (field 4"),
    "weekday 9": (lambda: parse_cron("0 0 * * 9"), "cron", "'9' cannot be read as day of week (field 5"),
    "a step of nought": (lambda: parse_cron("*/0 * * * *"), "cron", "as minute (field 1"),
    "30 February": (lambda: parse_cron("0 0 30 2 *"), "cron", "never comes"),
    "at random": (lambda: parse_cron("R * * * *"), "cron", "at random"),
    "at random within bounds": (lambda: parse_cron("0 r(1-5) * * *"), "cron", "as hour (field 2) would be drawn"),
    "hashed": (lambda: parse_cron("H * * * *"), "cron", "at random"),
    "too long": (lambda: parse_cron("0," * 60 + "0 * * * *"), "cron", "longer than 100"),
    "an alias": (lambda: parse_cron("@daily"), "cron", "1 fields"),
}


@pytest.mark.parametrize(("make", "field", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_by_its_field(make, field, text):
    with pytest.raises(ScheduleError) as caught:
        make()
    assert caught.value.field == field
    assert text in str(caught.value)


def test_what_is_written_is_read():
    assert [parse_every(text) for text in ("15m", "2h", "1D", "1h30m", "120s")] == [15, 120, 1440, 90, 2]
    assert [parse_at(text) for text in ("6:30", "06:30", "23:59")] == ["06:30", "06:30", "23:59"]
    assert [parse_weekday(text) for text in ("mon", "Sunday")] == [0, 6]
    assert parse_cron(" 0  8-17/2 * *   mon#1 ") == "0 8-17/2 * * mon#1"


@pytest.mark.parametrize("text", ["0 0 * * thu", "0 0 * mar,apr fri", "0 0 l * *", "5,35 */2 1-7 * 0"])
def test_names_and_lists_are_taken_and_django_q2s_parser_reads_them(text):
    assert croniter.expand(parse_cron(text))


@pytest.mark.parametrize("schedule", [every(15), daily("06:30", BERLIN), cron("*/7 1-3 * * *", BERLIN)], ids=str)
def test_is_due_at_its_own_times_only(schedule):
    for time in next_times(schedule, utc("2026-03-28T12:00"), 20):
        assert is_due(schedule, time)
        assert not any(is_due(schedule, time + timedelta(seconds=off)) for off in (-30, -1, 1, 30))


def test_goes_on_for_an_island_that_crosses_the_date_line():
    # Samoa had no 30 December 2011: at 10:00 UTC of that day its clocks went from Thursday's midnight to Saturday's.
    times = next_times(cron("0 * * * *", "Pacific/Apia"), utc("2011-12-30T08:30"), 3)
    assert times == [utc(f"2011-12-30T{hour}:00") for hour in ("09", "10", "11")]
