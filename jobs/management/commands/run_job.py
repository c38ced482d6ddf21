"""``manage.py run_job``: what a crontab calls."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from fetcher.cli.calling import add_output_options, add_workers_option
from fetcher.cli.command import TrawlCommand
from jobs.cli.options import add_name
from jobs.cli.running import run

_EPILOG = """\
examples:
  manage.py run_job news
  manage.py run_job news --quiet
  manage.py run_job news --workers 2 --progress none --output json --exit-zero

In a crontab, with a folder and an interpreter of yours:
  */15 * * * *  cd /srv/trawl && .venv/bin/python manage.py run_job news --quiet

A job that is paused is passed over. While a run of it is in progress this one is skipped, or waits, as the job's
--overlap says. Afterwards old runs are removed, as its --keep-runs and --keep-days say.

exit codes:
  0    every URL succeeded (or was not modified); or the job is paused, or was skipped
  1    an error: no such job, no database
  2    wrong usage
  3    finished, but some URLs failed (0 with --exit-zero)
  130, 143    interrupted by Ctrl-C or SIGTERM: what was in flight is saved, and the command that goes on is printed
"""


class Command(TrawlCommand):
    """Thin: read the call, run the job."""

    help = "Fetch a job's list as its schedule would, with the output and exit codes of fetch_urls."
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        add_name(parser)
        add_workers_option(parser.add_argument_group("processes"))
        add_output_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run, and exit with the code that says how it went."""
        run(options, stdout=self.stdout, stderr=self.stderr, scheduled=True)
