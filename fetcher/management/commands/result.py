"""``manage.py result``: the story of one result."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from fetcher import payloads
from fetcher.cli.command import TrawlCommand
from fetcher.cli.lookup import asking, find_run, run_reference
from fetcher.cli.options import USAGE
from fetcher.cli.story import document, print_story
from fetcher.cli.streams import raw_stream, use_utf8
from fetcher.cli.typed import completed
from fetcher.engine.errors import InvalidUrl
from fetcher.engine.urls import parse_url
from fetcher.models import Result
from fetcher.shown import shown_text, shown_url
from fetcher.sources.entry import redacted

_EPILOG = """\
examples:
  manage.py result https://example.org/
  manage.py result https://example.org/ --run 12
  manage.py result 52224 --output json

A URL means a plain GET of it, and the newest result; --run takes the one of that run. For other methods, or a request
with headers of its own, give the result's number.

exit codes:
  0    shown
  1    an error: no such result, no database
  2    wrong usage
"""
_LARGEST = 2**63 - 1


class Command(TrawlCommand):
    """Thin: find the result, print it."""

    help = "Show all that is known of one result: why it failed, what it waited for, how to ask again."
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare what can be asked for."""
        parser.add_argument("result", metavar="ID|URL", help="a result's number, or a URL")
        parser.add_argument("--run", metavar="RUN", type=run_reference, default=0, help="a run's number, or latest")
        parser.add_argument("--output", choices=("text", "json"), default="text", help="(default: text)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print one result."""
        out = raw_stream(self.stdout)
        use_utf8(out)
        with asking():
            run = None if options["run"] == 0 else find_run(options["run"]).id
            result = payloads.result_detail(_find(options["result"], run))
            if result is None:
                raise CommandError("the result was removed in between")
            if options["output"] == "json":
                out.write(document(result) + "\n")
            else:
                print_story(out, result, find_run(result.run))
            out.flush()


def _find(text: str, run: int | None) -> int:
    """Return the id of the result that is meant. Raises CommandError."""
    if text.isascii() and text.isdecimal():
        results = Result.objects.filter(id=min(int(text[:19]), _LARGEST))
        what = f"no result {text[:40]}"
        advice = "a result's number is the id in --output ndjson and in the API; a URL works as well"
    else:
        try:
            url = parse_url(completed(text))
        except InvalidUrl as exc:
            reason = shown_text(str(exc))
            raise CommandError(f"argument ID|URL: {redacted(text)!r} {reason}", returncode=USAGE) from None
        results = Result.objects.of_url(url.href)
        what = f"no result of GET {shown_url(url.href)}"
        advice = "manage.py fetch_urls fetches it"
    where = ""
    if run is not None:
        results, where = results.filter(run=run), f" in run {run}"
    found = results.values_list("id", flat=True).first()
    if found is None:
        raise CommandError(f"there is {what}{where}; {advice}")
    return found
