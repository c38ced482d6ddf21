"""``manage.py cluster``: how the queue and those who work on it are."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import CommandParser

from fetcher.cli.command import TrawlCommand
from fetcher.cli.console import console_for
from fetcher.cli.lookup import asking
from fetcher.cli.options import checked_value
from fetcher.cli.runs import interruptible
from fetcher.cli.streams import ends_when_lost, raw_stream, use_utf8
from fetcher.engine.config import check_seconds, parse_duration
from fetcher.engine.durations import write_duration
from fetcher.payloads import encode
from jobs.cli.status import print_status, status_line
from jobs.status import LATE, ClusterStatus, cluster_status

REDRAW_EVERY = 2.0
LINE_EVERY = 5.0
"""Seconds between two looks of ``--watch``: on a terminal, and elsewhere."""
_EPILOG = """\
examples:
  manage.py cluster status
  manage.py cluster status --watch
  manage.py cluster status --output json
  manage.py cluster status --late 10m > /dev/null || echo "see to the cluster"

What it cannot know: whether a process of another machine still runs (it counts as lost a minute after it was last
heard of), and how many messages of a queue in Redis are being worked on.

exit codes:
  0    nothing looks wrong
  1    something does, a line each under "Wrong"; or there is no database
  2    wrong usage
  130  --watch was interrupted by Ctrl-C
"""


def _late(text: str) -> float:
    seconds = parse_duration("late", text)
    check_seconds("late", seconds, zero=False)
    return seconds


class Command(TrawlCommand):
    """Thin: read how it is, print that."""

    help = "Show how the cluster is: what waits, who works, what is due, and what looks wrong."
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the one form."""
        forms = parser.add_subparsers(dest="form", required=True, metavar="status")
        status = forms.add_parser("status", help=self.help, description=self.help)
        status.add_argument("--output", choices=("summary", "json"), default="summary", help="(default: summary)")
        status.add_argument("--watch", action="store_true", help="look again every few seconds, until Ctrl-C")
        status.add_argument(
            "--late",
            type=checked_value(_late),
            default=LATE,
            metavar="TIME",
            help="how long a message may wait before it looks wrong: 90s, 10m; a number is seconds "
            f"(default: {write_duration(LATE)})",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print, and exit with the code that says whether all is well."""
        out = raw_stream(self.stdout)
        use_utf8(out)
        with asking(), interruptible():
            if options["watch"]:
                self._watch(out, options)
                return
            status = cluster_status(late=options["late"])
            self._tell(out, status, options["output"])
        if status.problems:
            raise SystemExit(1)

    def _tell(self, out: Any, status: ClusterStatus, output: str) -> None:
        if output == "json":
            out.write(encode(status).decode() + "\n")
        else:
            print_status(out, status)
        out.flush()

    def _watch(self, out: Any, options: dict[str, Any]) -> None:
        console = console_for(out)
        with ends_when_lost(out):
            while True:
                status = cluster_status(late=options["late"])
                if options["output"] == "json":
                    self._tell(out, status, "json")
                elif console.is_terminal:
                    console.clear()
                    print_status(out, status)
                else:
                    out.write(f"{status_line(status)}\n")
                    out.flush()
                time.sleep(REDRAW_EVERY if console.is_terminal else LINE_EVERY)
