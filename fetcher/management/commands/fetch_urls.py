"""``manage.py fetch_urls``: fetch a list of URLs now and save every outcome."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from fetcher.bootstrap import ensure_database
from fetcher.cli.command import TrawlCommand
from fetcher.cli.execution import OUTPUTS, run_list
from fetcher.cli.options import USAGE, add_fetch_options, add_request_options, config_from, options_from
from fetcher.cli.preview import show_plan
from fetcher.cli.progress import STYLES
from fetcher.disk import shortage, urls_in
from fetcher.sources import FORMATS, Entry, SourceError, open_arguments, open_source

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

exit codes:
  0    every URL succeeded (or was not modified)
  1    an error: no database, a file that cannot be read
  2    wrong usage
  3    finished, but some URLs failed or some lines are no URLs (0 with --exit-zero)
  130, 143    interrupted by Ctrl-C or SIGTERM; what was fetched is saved
"""


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
        parser.add_argument("--label", default="", help="a name for the run, to find it by")
        parser.add_argument(
            "--plan",
            action="store_true",
            help="request and save nothing: show what would be fetched, by host, and how long it takes at least",
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
        config = config_from(options)
        if len(options["label"]) > 200:
            raise CommandError("argument --label: must be at most 200 characters", returncode=USAGE)
        if options["plan"] and options["output"] == "ndjson":
            raise CommandError("argument --plan: prints one summary; use --output summary or json", returncode=USAGE)
        run_options = options_from(options, stdin_is_source="-" in options["urls"] + options["file"])
        ensure_database()
        try:
            entries, source = _open_sources(options["urls"], options["file"], options["format"])
        except SourceError as exc:
            raise CommandError(str(exc)) from None
        if warning := shortage(urls_in([Path(path) for path in options["file"] if path != "-"])):
            self.stderr.write(warning)
        if options["plan"]:
            show_plan(
                entries,
                config,
                run_options,
                output=options["output"],
                exit_zero=options["exit_zero"],
                stdout=self.stdout,
                stderr=self.stderr,
            )
            return
        run_list(
            entries,
            config,
            run_options,
            label=options["label"],
            source=source,
            output=options["output"],
            progress_style=options["progress"],
            exit_zero=options["exit_zero"],
            stdout=self.stdout,
            stderr=self.stderr,
        )


def _open_sources(urls: list[str], files: list[str], form: str) -> tuple[Iterator[Entry], str]:
    """Return the entries of all sources, one after the other, and a description of where they come from."""
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
    sources = [open_source(path, form) for path in files]
    names = ["stdin" if path == "-" else path for path in files]
    if urls:
        sources.insert(0, open_arguments(urls))
        names.insert(0, "arguments")
    return _chained(sources), ", ".join(names)


def _chained(sources: list[Iterator[Entry]]) -> Generator[Entry, None, None]:
    """Yield the entries of all sources, and close their files however this is left."""
    with contextlib.ExitStack() as stack:
        for source in sources:
            if isinstance(source, Generator):
                stack.callback(source.close)
        for source in sources:
            yield from source
