"""``manage.py fetch_urls``: fetch a list of URLs now and save every outcome."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import CommandError, CommandParser

from fetcher.bootstrap import ensure_database
from fetcher.cli.command import TrawlCommand
from fetcher.cli.execution import OUTPUTS, Execution, follow
from fetcher.cli.options import USAGE, add_fetch_options, add_request_options, config_from, options_from
from fetcher.cli.preview import show_plan
from fetcher.cli.progress import STYLES
from fetcher.cli.resuming import add_resume_option, is_resume, resume
from fetcher.cli.retrying import add_retry_options, is_retry, retry_failed
from fetcher.engine.config import FetchConfig
from fetcher.options import MAX_SPLIT, RunOptions
from fetcher.service import fetch_list
from fetcher.sources import FORMATS, Input, Inputs, SourceError

_EPILOG = """\
examples:
  manage.py fetch_urls https://example.org/ https://example.com/feed.xml
  manage.py fetch_urls --file urls.txt --label nightly --concurrency 200
  printf 'https://example.org/\\n' | manage.py fetch_urls - --output ndjson | jq .status
  manage.py fetch_urls --file urls.txt --per-host 2 --host-delay 0.5 --max-attempts 6
  manage.py fetch_urls --file items.csv --file feeds.opml --format auto --plan
  manage.py fetch_urls --file sitemap.xml --format sitemap --user-agent 'me/1 (me@example.org)' --max-redirects 3
  manage.py fetch_urls --file urls.txt --connect-timeout 5 --read-timeout 10 --deadline 30 --total-deadline 120
  manage.py fetch_urls --file items.jsonl --method PUT --max-body 512KiB --output json --progress none --exit-zero
  manage.py fetch_urls --file urls.txt --host-failures 5 --allow-network 10.0.0.0/8
  manage.py fetch_urls --data @query.json --header 'Content-Type: application/json' --extract 'items[].id' https://api.example.org/search
  manage.py fetch_urls --user-env API_LOGIN --no-body --no-conditional https://api.example.org/items
  manage.py fetch_urls --header 'Authorization: env:API_TOKEN' https://api.example.org/items
  manage.py fetch_urls --file urls.txt --workers 2 --split-hosts 2
  manage.py fetch_urls --retry-failed 12 --cause dns,timeout,http_status:5xx --max-attempts 8
  manage.py fetch_urls --resume
  manage.py fetch_urls --resume 12 --workers 2 --output ndjson

exit codes:
  0    every URL succeeded (or was not modified)
  1    an error: no database, a file that cannot be read
  2    wrong usage
  3    finished, but some URLs failed or some lines are no URLs (0 with --exit-zero)
  130, 143    interrupted by Ctrl-C or SIGTERM: what was in flight is saved, and the command that goes on is printed
"""


_MOST_WORKERS = 64


class Command(TrawlCommand):
    """Thin: read the call, hand it to the service, report."""

    help = "Fetch URLs concurrently, politely and with retries, and save every outcome to the database."
    epilog = _EPILOG
    usage = "[options] [URL ...]"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options of the design's contract that exist so far."""
        parser.add_argument("urls", nargs="*", metavar="URL", help="URLs to fetch; a single - reads standard input")
        parser.add_argument(
            "--file",
            metavar="PATH",
            action="append",
            default=[],
            help="read URLs from a file, plain or gzip; - is standard input; repeatable",
        )
        parser.add_argument(
            "--format",
            choices=FORMATS,
            default="auto",
            help="what the files hold; auto: by name, then by content (default: auto)",
        )
        parser.add_argument("--label", help="a name for the run, to find it by")
        parser.add_argument(
            "--plan",
            action="store_true",
            help="request and save nothing: show what would be fetched, by host, and how long it takes at least",
        )
        add_resume_option(parser)
        add_retry_options(parser)
        group = parser.add_argument_group("processes")
        group.add_argument(
            "--workers",
            metavar="N",
            type=_number(_MOST_WORKERS),
            default=1,
            help="processes on this machine that share the run and its --concurrency (default: 1)",
        )
        group.add_argument(
            "--split-hosts",
            metavar="N",
            type=_number(MAX_SPLIT),
            help="let up to N processes ask one host at once, each up to --per-host; otherwise a host keeps only one "
            "of them busy (default: 1)",
        )
        add_request_options(parser)
        add_fetch_options(parser)
        group = parser.add_argument_group("output")
        group.add_argument(
            "--output",
            choices=OUTPUTS,
            default="summary",
            help="on standard output: a summary, a JSON line for each result as it is saved, or one JSON document "
            "at the end (default: summary). Progress and messages go to standard error",
        )
        group.add_argument(
            "--progress",
            choices=STYLES,
            default="auto",
            help="auto: a bar on a terminal, a line every few seconds elsewhere (default: auto)",
        )
        group.add_argument("--exit-zero", action="store_true", help="exit 0 although some URLs failed")

    def handle(self, *args: Any, **options: Any) -> None:
        """Fetch, and exit with the code that says how it went."""
        if is_resume(options):
            resume(options, stdout=self.stdout, stderr=self.stderr)
            return
        if len(options["label"] or "") > 200:
            raise CommandError("argument --label: must be at most 200 characters", returncode=USAGE)
        if is_retry(options):
            retry_failed(options, stdout=self.stdout, stderr=self.stderr)
            return
        config = config_from(options)
        if options["plan"] and options["output"] == "ndjson":
            raise CommandError("argument --plan: prints one summary; use --output summary or json", returncode=USAGE)
        run_options = options_from(options, stdin_is_source="-" in options["urls"] + options["file"])
        inputs = _inputs(options["urls"], options["file"], options["format"])
        ensure_database()
        try:
            entries = Inputs(inputs)
        except SourceError as exc:
            raise CommandError(str(exc)) from None
        if options["plan"]:
            show_plan(
                iter(entries),
                config,
                run_options,
                output=options["output"],
                exit_zero=options["exit_zero"],
                stdout=self.stdout,
                stderr=self.stderr,
            )
            return
        self._show(_fetching(entries, config, run_options, options), options, source=entries.description)

    def _show(self, execution: Execution, options: dict[str, Any], *, source: str = "") -> None:
        follow(
            execution,
            source=source,
            output=options["output"],
            progress_style=options["progress"],
            exit_zero=options["exit_zero"],
            stdout=self.stdout,
            stderr=self.stderr,
        )


def _fetching(entries: Inputs, config: FetchConfig, run_options: RunOptions, options: dict[str, Any]) -> Execution:
    return lambda listener, control: fetch_list(
        entries,
        config,
        run_options,
        label=options["label"] or "",
        source=entries.description,
        listener=listener,
        control=control,
        workers=options["workers"],
    )


def _inputs(urls: list[str], files: list[str], form: str) -> list[Input]:
    """Return what is to be read, in order. Raises CommandError (usage)."""
    if urls == ["-"]:
        urls, files = [], [*files, "-"]
    elif "-" in urls:
        raise CommandError("- stands for standard input and must be the only positional argument", returncode=USAGE)
    if files.count("-") > 1:
        raise CommandError("standard input can be read only once", returncode=USAGE)
    if not urls and not files:
        raise CommandError(
            "nothing to fetch: give URLs, --file PATH, or - to read standard input (see --help)", returncode=USAGE
        )
    return [*([Input.arguments(urls)] if urls else []), *(Input.file(path, form) for path in files)]


def _number(most: int) -> Any:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:7]) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {most}, not {text[:100]!r}")
        return int(text)

    return read
