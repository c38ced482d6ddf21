"""The options of a job beside those of fetching: its schedule, and its policies."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from fetcher.cli.calling import whole_number
from fetcher.cli.options import USAGE, checked_value
from fetcher.engine.durations import read_duration
from jobs.models import Missed, Overlap
from jobs.schedules import Kind, Schedule, ScheduleError, parse_at, parse_cron, parse_every, parse_weekday
from jobs.store import check_name

_POLICIES = ("overlap", "missed", "start_jitter", "keep_runs", "keep_days")
_MOST_JITTER = 3600
_FLAGS = {"every": "--every", "weekday": "--weekly", "cron": "--cron", "time_zone": "--time-zone"}


def add_name(parser: CommandParser) -> None:
    """Add the job's name."""
    parser.add_argument("name", metavar="NAME", type=checked_value(check_name), help="the job's name")


def add_schedule_options(parser: CommandParser) -> None:
    """Add what ``schedule_from`` reads."""
    group = parser.add_argument_group("schedule").add_mutually_exclusive_group()
    group.add_argument(
        "--every",
        metavar="INTERVAL",
        type=checked_value(parse_every),
        help="15m, 2h or 1d, counted from 1970 in UTC: every 15m is at the quarters of an hour",
    )
    group.add_argument("--daily", metavar="HH:MM", type=checked_value(parse_at), help="each day at this time")
    group.add_argument(
        "--weekly", metavar=("DAY", "HH:MM"), nargs=2, help="each week on this day (mon, tue, …) at this time"
    )
    group.add_argument(
        "--cron",
        metavar="'* * * * *'",
        type=checked_value(parse_cron),
        help="minute, hour, day of month, month and day of week, as in a crontab",
    )
    group.add_argument("--no-schedule", action="store_true", help="never by itself (this is the default)")
    parser.add_argument(
        "--time-zone",
        metavar="ZONE",
        help=f"whose clock --daily, --weekly and --cron go by, such as Europe/Berlin (default: {settings.TIME_ZONE})",
    )


def schedule_from(options: dict[str, Any], base: Schedule | None = None) -> Schedule | None:
    """Return the schedule that the options ask for, None where they ask for none. Raises CommandError (usage).

    What is not given of the time zone is as in ``base``.
    """
    zone = options["time_zone"] or (base.time_zone if base else settings.TIME_ZONE)
    try:
        found = _given(options, zone)
        if found is None and base is not None and options["time_zone"]:
            found = Schedule(kind=base.kind, at=base.at, weekday=base.weekday, cron=base.cron, time_zone=zone)
    except ScheduleError as exc:
        flag = "--weekly" if exc.field == "at" else _FLAGS[exc.field]
        raise CommandError(f"argument {flag}: {exc}", returncode=USAGE) from None
    if options["time_zone"] and (found is None or found.kind in (Kind.NONE, Kind.EVERY)):
        raise CommandError("argument --time-zone: goes with --daily, --weekly or --cron", returncode=USAGE)
    return found


def _given(options: dict[str, Any], zone: str) -> Schedule | None:
    if options["every"] is not None:
        return Schedule(kind=Kind.EVERY, every=options["every"], time_zone=zone)
    if options["daily"] is not None:
        return Schedule(kind=Kind.DAILY, at=options["daily"], time_zone=zone)
    if options["weekly"] is not None:
        day, time = options["weekly"]
        return Schedule(kind=Kind.WEEKLY, weekday=parse_weekday(day), at=parse_at(time), time_zone=zone)
    if options["cron"] is not None:
        return Schedule(kind=Kind.CRON, cron=options["cron"], time_zone=zone)
    return Schedule(time_zone=zone) if options["no_schedule"] else None


def add_policy_options(parser: CommandParser) -> None:
    """Add what ``policies_from`` reads."""
    group = parser.add_argument_group("policies")
    group.add_argument(
        "--overlap",
        choices=Overlap.values,
        help="when a run of the job is still in progress: skip this one, or queue up behind it (default: skip)",
    )
    group.add_argument(
        "--missed",
        choices=Missed.values,
        help="for times at which nobody was there to fetch: one run for all of them, or none (default: one)",
    )
    group.add_argument(
        "--start-jitter",
        metavar="TIME",
        type=checked_value(_jitter),
        help="begin up to this much later, at random, so that jobs of one time do not begin together: 30s, 5m, at most "
        "1h (default: 0s)",
    )
    group.add_argument(
        "--keep-runs",
        metavar="N",
        type=whole_number(1, 100_000),
        help="keep the newest N runs (default: 50, or about three days of them where these are more)",
    )
    group.add_argument(
        "--keep-days",
        metavar="N",
        type=whole_number(1, 10_000),
        help="and of these none that ended more than N days ago (default: 30)",
    )


def _jitter(text: str) -> int:
    seconds = read_duration(text)
    if not 0 <= seconds <= _MOST_JITTER or seconds % 1:
        raise ValueError(f"must be whole seconds from 0s to 1h, such as 30s or 5m, not {text[:100]!r}")
    return int(seconds)


def policies_from(options: dict[str, Any]) -> dict[str, Any]:
    """Return the policies that were given, by column."""
    return {name: options[name] for name in _POLICIES if options[name] is not None}
