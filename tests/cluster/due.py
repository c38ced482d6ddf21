"""``python -m tests.cluster.due``: saves jobs, or makes all of them due.

::

    add COUNT HOST...       jobs due-0, due-1, … with three URLs each, which are due in half a day
    now                     sets their alarms, and the time that is meant, to a moment ago
"""

from __future__ import annotations

import ast
import sys
from datetime import timedelta

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.utils import timezone  # noqa: E402
from django_q.models import Schedule  # noqa: E402

NAME = "due-{}"
_URLS = 3


def main() -> None:
    """Do what the first argument says."""
    match sys.argv[1:]:
        case ["add", count, *netlocs]:
            _add(int(count), netlocs)
        case ["now"]:
            _make_due()


def _add(count: int, netlocs: list[str]) -> None:
    at = f"{timezone.now() + timedelta(hours=12):%H:%M}"
    for number in range(count):
        urls = [f"http://{netlocs[(number + n) % len(netlocs)]}/ok/due-{number}-{n}" for n in range(_URLS)]
        call_command("job", "add", NAME.format(number), *urls, "--daily", at)


def _make_due() -> None:
    moment = timezone.now() - timedelta(seconds=10)
    for alarm in Schedule.objects.filter(func="jobs.tasks.fire"):
        job, _ = ast.literal_eval(alarm.args)
        changed = Schedule.objects.filter(pk=alarm.pk, repeats=1)
        if not changed.update(args=str((job, moment.isoformat())), next_run=moment):
            raise SystemExit(f"the alarm {alarm.name} is not set")


if __name__ == "__main__":
    main()
