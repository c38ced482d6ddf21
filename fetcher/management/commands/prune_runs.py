"""``manage.py prune_runs``: remove old runs and give their space back."""

from __future__ import annotations

from io import StringIO
from typing import Any

from django.core.management.base import CommandError, CommandParser

from fetcher.cli.calling import add_quiet_option, is_quiet
from fetcher.cli.command import TrawlCommand
from fetcher.cli.lookup import asking
from fetcher.cli.options import USAGE
from fetcher.cli.pruning import age, number_of_runs, print_plan, prune
from fetcher.cli.streams import raw_stream, use_utf8

_EPILOG = """\
examples:
  manage.py prune_runs --keep 30 --dry-run
  manage.py prune_runs --older-than 90d
  manage.py prune_runs --keep 10 --older-than 30d    # what is old, but never the newest ten

Removed are the runs with their results and rejected lines, and then content that nothing refers to any more. Runs that
are pending or in progress are never touched, and a run that lost its process only after an hour's silence. Targets
stay. A URL whose last good result is removed is fetched without a condition the next time.

It is safe beside a run in progress: results that it may build upon stay until the next call. A call that was
interrupted is completed by the next one.

On SQLite the file is then written anew (VACUUM), which needs as much free disk as the data that is left and lets
nobody else write meanwhile; it is left out while a run is in progress. On PostgreSQL autovacuum does it.

exit codes:
  0    done, or nothing to do
  1    an error: no database, a file that cannot be removed
  2    wrong usage
  130  interrupted by Ctrl-C
"""


class Command(TrawlCommand):
    """Thin: read the call, prune, report."""

    help = "Remove old runs, and what only they needed."
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--keep", metavar="N", type=number_of_runs, help="spare the newest N runs")
        parser.add_argument(
            "--older-than", metavar="AGE", type=age, help="only runs that ended so long ago: 12h, 30d, 8w"
        )
        parser.add_argument("--dry-run", action="store_true", help="only say which runs would be removed")
        add_quiet_option(parser, "for crontabs, the same as -v 0: print errors only")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prune."""
        if options["keep"] is None and options["older_than"] is None:
            raise CommandError("say what to remove: --keep N, --older-than AGE, or both", returncode=USAGE)
        out, err = raw_stream(self.stdout), raw_stream(self.stderr)
        use_utf8(out)
        with asking():
            if options["dry_run"]:
                print_plan(out, options["keep"], options["older_than"])
            else:
                quiet = is_quiet(options)
                prune(
                    StringIO() if quiet else out, StringIO() if quiet else err, options["keep"], options["older_than"]
                )
            out.flush()
