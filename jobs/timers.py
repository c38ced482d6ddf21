"""django-q2's Schedules, one for each job that has a schedule: an alarm for the next time, set anew once it was heard.

An alarm is django-q2's kind "once", because when the next one is depends on time zones, on changes of the clocks and on
jitter, and ``jobs.schedules`` knows about these. ``repeats`` is 1 while it is set and 0 once it went off. The time that
is meant goes with it, so that whoever hears it twice begins one run.

django-q2's table has no constraint that would keep a job to one alarm, so alarms are written under the lock of the
job's row, and by what that row says then. The row is locked before an alarm is, everywhere.
"""

from __future__ import annotations

import ast
import random
from datetime import datetime, timedelta
from enum import Enum

from django.db import transaction
from django.utils import timezone
from django_q.models import Schedule as Alarm

from jobs.models import Job
from jobs.schedules import ScheduleError, next_times

FIRE = "jobs.tasks.fire"
SWEEP = "jobs.tasks.sweep"
HEARD = timedelta(minutes=2)
"""How long after an alarm went off nothing may be heard of it before its message is taken for lost."""
JUST_NOW = timedelta(minutes=1)
"""A time that came since is not missed yet: the scheduler looks every half minute, and then a worker has to come."""
_NAME = "trawl job "
_PLAIN = {"kwargs": None, "hook": None, "cluster": None, "intended_date_kwarg": None}
_SWEEP = {"name": "trawl sweep", "args": None, "schedule_type": Alarm.MINUTES, "minutes": 1, "repeats": -1, **_PLAIN}


class Alarmed(Enum):
    """How an alarm is."""

    RIGHT = 1
    LOST = 2
    """It went off, and nobody heard it."""
    WRONG = 3


def name_of(job: int) -> str:
    """Return the name of a job's alarm."""
    return f"{_NAME}{job}"


def set_alarm(job: Job, now: datetime | None = None, *, anew: bool = False) -> bool:
    """Have a job's alarm as its row says; whether it was otherwise. One that is right stays, also where it is overdue.

    ``anew``: the schedule is another one, so none is right. To be called in the transaction that changes the row.
    """
    now = now or timezone.now()
    with transaction.atomic():
        row = _locked(job.pk)
        if row is None:
            return remove_alarm(job.pk)
        alarms = _alarms(job.pk)
        if not anew and len(alarms) == 1 and judge(row, alarms[0], now) is not Alarmed.WRONG:
            return False
        return _set(row, now, alarms) is not None or bool(alarms)


def heard(job: Job, intended: datetime, now: datetime) -> None:
    """Set a job's next alarm once the one for the time that is meant was heard.

    An alarm that is for another time was not heard by this: a message that comes twice must not take its place. And one
    for a time that has not come, because the clock was put back, is for the next time again.
    """
    with transaction.atomic():
        row = _locked(job.pk)
        alarms = _alarms(job.pk)
        is_this = len(alarms) == 1 and intended_by(alarms[0], job.pk) == intended
        if row is not None and is_this and intended - now <= JUST_NOW:
            _set(row, max(intended, now - JUST_NOW), alarms)
        else:
            set_alarm(job, now)


def is_set_for(job: int, intended: datetime) -> bool:
    """Whether a job's alarm is for this time, set or gone off."""
    return any(intended_by(alarm, job) == intended for alarm in _alarms(job))


def overdue_since(job: int, now: datetime) -> datetime | None:
    """Return the time for which a job should have fired by now and did not: nobody looks at alarms, or none hears."""
    late = Alarm.objects.filter(name=name_of(job), func=FIRE, next_run__lt=now - HEARD).first()
    return None if late is None else intended_by(late, job)


def remove_alarm(job: int) -> bool:
    """Remove a job's alarm; whether there was one."""
    return bool(Alarm.objects.filter(name=name_of(job)).delete()[0])


def mend_alarms(now: datetime) -> int:
    """Mend the alarms of all jobs, and return how many of them were not right."""
    alarms: dict[str, list[Alarm]] = {}
    for alarm in Alarm.objects.filter(func=FIRE).order_by("pk"):
        alarms.setdefault(str(alarm.name), []).append(alarm)
    lost, wrong = [], []
    for job in Job.objects.defer("secrets"):  # read after the alarms, which are saved with their jobs
        found = alarms.pop(name_of(job.pk), [])
        if len(found) > 1:
            wrong.append(job)
            continue
        verdict = judge(job, found[0] if found else None, now)
        if verdict is Alarmed.LOST:
            lost.append(found[0].pk)
        elif verdict is Alarmed.WRONG:
            wrong.append(job)
    # Once more with the time that was meant: where it was heard after all, that is known.
    mended: int = Alarm.objects.filter(pk__in=lost, repeats=0).update(repeats=1, next_run=now)
    orphans = [alarm.pk for found in alarms.values() for alarm in found]
    if orphans:
        mended += Alarm.objects.filter(pk__in=orphans).delete()[0]
    return mended + sum(set_alarm(job, now) for job in wrong)


def judge(job: Job, alarm: Alarm | None, now: datetime) -> Alarmed:
    """Say how a job's alarm is; without a schedule, and while the job is paused, there should be none.

    A wrong one is not for the next time, nor for one that has come: the clock was put back since, or somebody changed
    it by hand.
    """
    try:
        upcoming = _upcoming(job, now)
        if alarm is None or not upcoming:
            return Alarmed.RIGHT if alarm is None and not upcoming else Alarmed.WRONG
        intended = intended_by(alarm, job.pk)
        if intended is None or (intended > now and intended != upcoming[0]):
            return Alarmed.WRONG
    except ScheduleError:  # other machines of the cluster may know its time zone
        return Alarmed.RIGHT
    if not alarm.repeats:
        return Alarmed.LOST if abs(now - alarm.next_run) > HEARD else Alarmed.RIGHT
    late = alarm.next_run > max(now, intended + timedelta(seconds=job.start_jitter))
    return Alarmed.WRONG if late else Alarmed.RIGHT


def intended_by(alarm: Alarm, job: int) -> datetime | None:
    """Return the time that a job's alarm is for; None where it is not as this module sets it."""
    if (alarm.func, alarm.schedule_type, alarm.cluster or None) != (FIRE, Alarm.ONCE, None):
        return None
    if alarm.kwargs or alarm.hook or alarm.intended_date_kwarg or alarm.repeats not in (0, 1) or not alarm.next_run:
        return None
    try:
        whose, text = ast.literal_eval(alarm.args)
        intended = datetime.fromisoformat(text)
    except (ValueError, TypeError, SyntaxError):
        return None
    return intended if whose == job and intended.tzinfo else None


def ensure_sweep() -> bool:
    """Have the queue call the sweep every minute: there is one, it is as it should be, and its time is not far.

    It is far ahead after the clock was put back, and long ago where no scheduler works. Two processes may both add one;
    whoever comes later sees both, and the first stays. Returns whether anything was not as it should be.
    """
    now = timezone.now()
    near = {"next_run__gte": now - HEARD, "next_run__lte": now + HEARD}
    found = list(Alarm.objects.filter(func=SWEEP).order_by("pk").values_list("pk", flat=True))
    if len(found) == 1 and Alarm.objects.filter(pk=found[0], **_SWEEP, **near).exists():
        return False
    if not found:
        Alarm.objects.create(func=SWEEP, next_run=now, **_SWEEP)
        found = list(Alarm.objects.filter(func=SWEEP).order_by("pk").values_list("pk", flat=True))
    Alarm.objects.filter(pk__in=found[1:]).delete()
    Alarm.objects.filter(pk__in=found[:1]).exclude(**_SWEEP, **near).update(**_SWEEP, next_run=now)
    return True


def unreadable(now: datetime) -> list[str]:
    """Name the schedules, anybody's, that django-q2 cannot read: when one of them is due, no other goes off."""
    found = []
    for alarm in Alarm.objects.exclude(repeats=0).filter(next_run__lt=now):
        try:
            ast.literal_eval(alarm.args or "()")
            if alarm.schedule_type != Alarm.ONCE:
                alarm.calculate_next_run(alarm.next_run)
        except Exception:  # noqa: BLE001  (whatever it is, the scheduler meets it as well)
            found.append(f"{alarm.pk} ({alarm.name or alarm.func})")
    return found


def _set(job: Job, after: datetime, alarms: list[Alarm]) -> datetime | None:
    try:
        upcoming = _upcoming(job, after, 2)
    except ScheduleError:  # its time zone was known where it was saved
        return None
    if not upcoming:
        remove_alarm(job.pk)
        return None
    values = {
        "name": name_of(job.pk),
        "func": FIRE,
        "args": str((job.pk, upcoming[0].isoformat())),
        "schedule_type": Alarm.ONCE,
        "repeats": 1,
        "next_run": upcoming[0] + _jitter(job, upcoming),
        **_PLAIN,
    }
    if not alarms or not Alarm.objects.filter(pk=alarms[0].pk).update(**values):
        Alarm.objects.create(**values)
    if alarms[1:]:
        Alarm.objects.filter(pk__in=[alarm.pk for alarm in alarms[1:]]).delete()
    return upcoming[0]


def _jitter(job: Job, upcoming: list[datetime]) -> timedelta:
    """Draw one that ends before the time after the next: each has its own firing."""
    most = float(job.start_jitter)
    if len(upcoming) > 1:
        most = min(most, (upcoming[1] - upcoming[0]).total_seconds())
    return timedelta(seconds=random.uniform(0, most))  # noqa: S311  (spreads a load)


def _alarms(job: int) -> list[Alarm]:
    return list(Alarm.objects.filter(name=name_of(job)).order_by("pk"))


def _locked(job: int) -> Job | None:
    return Job.objects.select_for_update(no_key=True).defer("secrets").filter(pk=job).first()


def _upcoming(job: Job, after: datetime, count: int = 1) -> list[datetime]:
    return next_times(job.schedule, after, count) if job.enabled else []
