"""When a job is due: values in, decision out. A schedule that exists can be used, whoever reads it.

Times of day are those of the schedule's time zone, and a change of its clocks loses no firing and repeats none:

* A time that the clocks pass over is as much later as they jump: 02:30 becomes 03:30.
* A time that comes twice counts the first time, unless the hour is given as ``*`` or ``*/N``: a schedule that goes
  through the hours goes on through both.

``every`` is counted from midnight UTC of 1 January 1970, so that when it is due depends on nothing but the clock: every
15 minutes is at the quarters of an hour.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter

from fetcher.engine.durations import read_duration

MOST_MINUTES = 32_767
"""What a column of django-q2's takes: 22 days."""
LONGEST_CRON = 100
"""Characters, for the same reason."""
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_UNITS = {"m": 1, "h": 60, "d": 24 * 60}
_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
_DRAWN = re.compile(r"(?:^|,)[hr](?![a-z])", re.IGNORECASE)
"""Croniter's H and R: drawn at random, so that nobody could say when the job is due."""
_JUMP = timedelta(hours=3)
"""Clocks are changed by less."""
_FAR = timedelta(days=2)
"""A change that is as far away brings no surprise; an island that crosses the date line skips a day."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Kind(StrEnum):
    """What a schedule goes by."""

    NONE = "none"
    EVERY = "every"
    DAILY = "daily"
    WEEKLY = "weekly"
    CRON = "cron"


class ScheduleError(ValueError):
    """A schedule cannot be used; ``field`` is the one at fault: every, at, weekday, cron or time_zone."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a job is due. Raises ScheduleError for what cannot be used.

    Examples::

        Schedule()                                                  never by itself
        Schedule(kind=Kind.EVERY, every=15)                         at :00, :15, :30 and :45
        Schedule(kind=Kind.DAILY, at="06:30", time_zone="Asia/Tokyo")
        Schedule(kind=Kind.WEEKLY, weekday=0, at="09:00")           on Mondays
        Schedule(kind=Kind.CRON, cron="*/5 8-17 * * mon-fri")
    """

    kind: Kind = Kind.NONE
    every: int | None = None
    at: str = ""
    weekday: int | None = None
    cron: str = ""
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        _check_time_zone(self.time_zone)
        match self.kind:
            case Kind.EVERY:
                _check_every(self.every)
            case Kind.DAILY:
                _check_at(self.at)
            case Kind.WEEKLY:
                _check_at(self.at)
                if self.weekday not in range(7):
                    raise ScheduleError("weekday", f"must be from 0 (Monday) to 6, not {self.weekday!r}")
            case Kind.CRON:
                _check_cron(self.cron)

    def __str__(self) -> str:
        """Say it in words."""
        match self.kind:
            case Kind.EVERY:
                return f"every {_interval(self.every or 1)}"
            case Kind.DAILY:
                return f"daily at {self.at} ({self.time_zone})"
            case Kind.WEEKLY:
                return f"on {_DAYS[self.weekday or 0]}s at {self.at} ({self.time_zone})"
            case Kind.CRON:
                return f"cron {self.cron} ({self.time_zone})"
        return "none"


def next_times(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    """Return the next ``count`` times after a moment at which a schedule is due, in UTC; none of them for no schedule.

    Fewer where the calendar ends before.
    """
    match schedule.kind:
        case Kind.NONE:
            return []
        case Kind.EVERY:
            step = timedelta(minutes=schedule.every or 1)
            first = _EPOCH + ((after - _EPOCH) // step + 1) * step
            return [first + number * step for number in range(count)]
    return _by_the_clock(schedule, after, count)


def is_due(schedule: Schedule, moment: datetime) -> bool:
    """Whether a moment is one of a schedule's times."""
    return next_times(schedule, moment - timedelta(microseconds=1), 1) == [moment]


def _by_the_clock(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    zone = ZoneInfo(schedule.time_zone)
    expression = _expression(schedule)
    twice = expression.split()[1].startswith("*")
    found: set[datetime] = set()
    local = after.astimezone(zone).replace(tzinfo=None)
    for moment in _matches(expression, local if _is_steady(after, zone) else local - _JUMP):
        if len(found) >= count:
            last = sorted(found)[count - 1]
            # A later time of day may come sooner, where the clocks are put back in between.
            if _is_steady(last, zone) or moment > last.astimezone(zone).replace(tzinfo=None) + _JUMP:
                break
        # Twice the same, unless the clocks are put back. One that is passed over is read by the clock before the jump.
        folds = (0, 1) if twice and _exists(moment, zone) else (0,)
        instants = (moment.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in folds)
        found.update(instant for instant in instants if instant > after)
    return sorted(found)[:count]


def _matches(expression: str, after: datetime) -> Iterator[datetime]:
    """Yield the naive times that an expression means, in their order."""
    times = croniter(expression, after)
    try:
        while True:
            yield times.get_next(datetime)
    except (CroniterError, OverflowError):  # no such day for fifty years, or the calendar ends
        return


def _is_steady(moment: datetime, zone: ZoneInfo) -> bool:
    """Whether no change of the clocks is near: going through what it might bring is most of the work."""
    try:
        return (moment - _FAR).astimezone(zone).utcoffset() == (moment + _FAR).astimezone(zone).utcoffset()
    except OverflowError:  # the calendar ends
        return False


def _exists(moment: datetime, zone: ZoneInfo) -> bool:
    aware = moment.replace(tzinfo=zone)
    return aware.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == moment


def _expression(schedule: Schedule) -> str:
    if schedule.kind is Kind.CRON:
        return schedule.cron
    hour, minute = schedule.at.split(":")
    # In cron Sunday is 0.
    day = "*" if schedule.kind is Kind.DAILY else str(((schedule.weekday or 0) + 1) % 7)
    return f"{int(minute)} {int(hour)} * * {day}"


def parse_every(text: str) -> int:
    """Read ``15m``, ``2h`` or ``1d`` as minutes. Raises ScheduleError."""
    try:
        minutes, rest = divmod(read_duration(text, "an interval such as 15m, 2h or 1d", needs_unit=True), 60)
    except ValueError as exc:
        raise ScheduleError("every", str(exc)) from None
    if rest:
        raise ScheduleError("every", f"must be whole minutes, such as 15m, not {text[:100]!r}")
    _check_every(int(minutes))
    return int(minutes)


def parse_at(text: str) -> str:
    """Read a time of day, ``6:30`` or ``06:30``, as ``HH:MM``. Raises ScheduleError."""
    text = text.strip()
    _check_at(text)
    return text.rjust(5, "0")


def parse_weekday(text: str) -> int:
    """Read a day of the week, ``mon`` or ``Monday``, as 0 (Monday) to 6. Raises ScheduleError."""
    day = text.strip().lower()
    for number, name in enumerate(_DAYS):
        if day in (WEEKDAYS[number], name.lower()):
            return number
    raise ScheduleError("weekday", f"must be one of {', '.join(WEEKDAYS)}, not {text[:100]!r}")


def parse_cron(text: str) -> str:
    """Read a cron expression, with single spaces between its fields. Raises ScheduleError."""
    text = " ".join(text.split())
    _check_cron(text)
    return text


def _check_every(minutes: int | None) -> None:
    if minutes is None or minutes < 1:
        raise ScheduleError("every", "must be at least 1m: an interval of nought never ends")
    if minutes > MOST_MINUTES:
        raise ScheduleError("every", f"must be at most {MOST_MINUTES}m, which is 22 days; use a cron expression")


def _check_at(text: str) -> None:
    if not _TIME.fullmatch(text):
        raise ScheduleError("at", f"must be a time of day such as 06:30, not {text[:100]!r}")


def _check_time_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # a folder's name is an OSError
        raise ScheduleError("time_zone", f"there is no time zone {name[:100]!r}; write Europe/Berlin or UTC") from None


@lru_cache(4096)
def _check_cron(text: str) -> None:
    fields = text.split()
    if len(text) > LONGEST_CRON:
        raise ScheduleError("cron", f"is longer than {LONGEST_CRON} characters")
    if len(fields) != len(_FIELDS):
        raise ScheduleError("cron", f"{text!r} has {len(fields)} fields, not five: {', '.join(_FIELDS)}")
    for number, (name, field) in enumerate(zip(_FIELDS, fields, strict=True)):
        if _DRAWN.search(field):
            raise ScheduleError("cron", f"{field!r} as {name} (field {number + 1}) would be drawn at random")
        # By itself, since croniter does not say which field it refuses.
        alone = " ".join(field if place == number else "*" for place in range(len(_FIELDS)))
        if not _is_read(alone):
            raise ScheduleError("cron", f"{field!r} cannot be read as {name} (field {number + 1} of {text!r})")
    if not _is_read(text):
        raise ScheduleError("cron", f"{text!r} cannot be read")
    if next(_matches(text, datetime(2024, 1, 1)), None) is None:  # noqa: DTZ001  (the time of no zone in particular)
        raise ScheduleError("cron", f"{text!r} never comes: there is no such day of month (field 3) in that month")


def _is_read(expression: str) -> bool:
    """Whether django-q2, which uses this very function, can read an expression."""
    try:
        croniter.expand(expression)
    except (CroniterError, ValueError, LookupError, TypeError, AttributeError):
        return False
    return True


def _interval(minutes: int) -> str:
    for unit, name in ((_UNITS["d"], "day"), (_UNITS["h"], "hour"), (1, "minute")):
        if minutes % unit == 0:
            number = minutes // unit
            return name if number == 1 else f"{number} {name}s"
    raise AssertionError(minutes)
