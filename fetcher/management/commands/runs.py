"""``manage.py runs``: which runs there are, how one is going or went, and its end before its time."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import CommandError, CommandParser

from fetcher import payloads
from fetcher.cli.cancelling import cancel_run
from fetcher.cli.command import TrawlCommand
from fetcher.cli.lookup import asking, find_run, run_reference
from fetcher.cli.runs import exit_code, interruptible, print_run, print_runs, watch_run
from fetcher.cli.streams import ends_when_lost, raw_stream, use_utf8
from fetcher.cli.telling import ended_badly
from fetcher.models import Run, RunState

_EPILOG = """\
examples:
  manage.py runs list --state interrupted
  manage.py runs list --with-failures --limit 5
  manage.py runs list --label nightly --limit 5 --output json
  manage.py runs show latest
  manage.py runs show 12 --watch
  manage.py runs cancel 12

A run whose process is gone is shown as interrupted: at once on its own machine, elsewhere a minute after it was last
heard of. One that the cluster has goes on without a process.

cancel stops a run within seconds, wherever it is fetched: here, in another terminal, on the cluster. What is saved
stays; what has no result stays pending, and the run cannot be resumed.

exit codes:
  0    shown, cancelled; with --watch: the run completed and everything succeeded
  1    an error: no such run, no database, a run to cancel that is over; with --watch: the run did not complete
  2    wrong usage
  3    with --watch: completed, but some URLs failed or some lines were rejected
  130  interrupted by Ctrl-C; the run itself goes on
"""


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:7]) <= 10_000:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 10000, not {text[:100]!r}")
    return int(text)


class Command(TrawlCommand):
    """Thin: find runs, print them."""

    help = "List runs, show one, or cancel some."
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the forms."""
        forms = parser.add_subparsers(dest="form", required=True, metavar="list|show|cancel")
        listing = forms.add_parser("list", help="list runs, the newest first")
        listing.add_argument("--state", choices=RunState.values, help="only runs in this state")
        listing.add_argument("--label", help="only runs with this label")
        listing.add_argument(
            "--with-failures", action="store_true", help="only runs in which a URL failed or was skipped"
        )
        listing.add_argument("--limit", type=_limit, default=20, metavar="N", help="so many at most (default: 20)")
        listing.add_argument("--output", choices=("table", "json"), default="table", help="(default: table)")
        showing = forms.add_parser("show", help="show one run")
        showing.add_argument("run", metavar="RUN", type=run_reference, help="a run's number, or latest")
        showing.add_argument("--watch", action="store_true", help="follow the run until it is over, then show it")
        showing.add_argument("--output", choices=("summary", "json"), default="summary", help="(default: summary)")

        cancelling = forms.add_parser("cancel", help="have nothing more of a run fetched, wherever that is done")
        cancelling.add_argument(
            "runs", metavar="RUN", nargs="+", type=run_reference, help="a run's number, or latest; several are allowed"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print, and exit with the code that says how it went."""
        out = raw_stream(self.stdout)
        use_utf8(out)
        with asking():
            if options["form"] == "list":
                self._list(out, options)
            elif options["form"] == "cancel":
                self._cancel(out, options)
            else:
                with ends_when_lost(out):
                    self._show(out, options)

    def _list(self, out: Any, options: dict[str, Any]) -> None:
        runs = Run.objects.order_by("-id")
        if options["state"]:
            runs = runs.in_state(options["state"])
        if options["label"] is not None:
            runs = runs.filter(label=options["label"].replace("\x00", ""))
        if options["with_failures"]:
            runs = runs.with_failures()
        found = payloads.run_items(runs[: options["limit"]])
        if options["output"] == "json":
            out.write(payloads.encode(found).decode() + "\n")
        elif found:
            print_runs(out, found)
        else:
            hint = ""
            if options["state"] == RunState.FAILED:
                hint = "; a failed run could not go on. Runs in which URLs failed: manage.py runs list --with-failures"
            raw_stream(self.stderr).write(f"there is no such run{hint}\n")
        out.flush()

    def _show(self, out: Any, options: dict[str, Any]) -> None:
        run = find_run(options["run"])
        if options["watch"]:
            number = run.id
            with interruptible():
                # What is watched goes to standard error where standard output is for a program.
                stream = out if options["output"] == "summary" else raw_stream(self.stderr)
                run = watch_run(stream, lambda: find_run(number))
        if options["output"] == "json":
            out.write(payloads.encode(run).decode() + "\n")
        else:
            print_run(out, run)
        out.flush()
        if options["watch"] and run.state in (RunState.CANCELLED, RunState.FAILED):
            raise CommandError(ended_badly(run.id, run.state))
        if options["watch"] and run.state != RunState.COMPLETED:
            raise CommandError(f"run {run.id} is {run.state}, not completed")
        if options["watch"] and exit_code(run):
            raise SystemExit(exit_code(run))

    def _cancel(self, out: Any, options: dict[str, Any]) -> None:
        problems = []
        for reference in options["runs"]:
            with interruptible():
                try:
                    problem = cancel_run(out, reference)
                except CommandError as exc:
                    problem = str(exc)
            if problem:
                problems.append(problem)
            out.flush()
        for problem in problems[:-1]:
            raw_stream(self.stderr).write(f"{problem}\n")
        if problems:
            raise CommandError(problems[-1])
