"""``manage.py fetch_urls``: fetch a list of URLs now and save every outcome."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from fetcher.bootstrap import ensure_database
from fetcher.cli.calling import (
    add_output_options,
    add_source_options,
    add_split_option,
    add_workers_option,
    inputs_from,
    is_quiet,
)
from fetcher.cli.command import TrawlCommand
from fetcher.cli.execution import Execution, follow
from fetcher.cli.options import USAGE, add_fetch_options, add_request_options, config_from, options_from
from fetcher.cli.preview import find_in, show_plan
from fetcher.cli.queueing import Planning, add_queue_options, hand_over, is_queued
from fetcher.cli.resuming import add_resume_option, is_resume, resume
from fetcher.cli.retrying import add_retry_options, is_retry, retry_failed
from fetcher.disk import shortage, urls_in
from fetcher.engine.config import FetchConfig
from fetcher.options import RunOptions
from fetcher.queueing import queue_list
from fetcher.service import fetch_list
from fetcher.sources import Inputs, SourceError
from fetcher.texts import check_label

_EPILOG = """\
examples:
  manage.py fetch_urls https://example.org/ https://example.com/feed.xml
  manage.py fetch_urls --file urls.txt --label nightly --concurrency 200
  printf 'https://example.org/\\n' | manage.py fetch_urls - --output ndjson | jq .status
  manage.py fetch_urls --file urls.txt --per-host 2 --host-delay 500ms --max-attempts 6
  manage.py fetch_urls --file items.csv --file feeds.opml --format auto --plan
  manage.py fetch_urls --file sitemap.xml --format sitemap --user-agent 'me/1 (me@example.org)' --max-redirects 3
  manage.py fetch_urls --file urls.txt --connect-timeout 5s --read-timeout 10s --deadline 30s --total-deadline 2m
  manage.py fetch_urls --file items.jsonl --method PUT --max-body 512KiB --output json --progress none --exit-zero
  manage.py fetch_urls --file urls.txt --host-failures 5 --allow-network 10.0.0.0/8
  manage.py fetch_urls --data @query.json --header 'Content-Type: application/json' --extract 'items[].id' https://api.example.org/search
  manage.py fetch_urls --user-env API_LOGIN --no-body --no-conditional https://api.example.org/items
  manage.py fetch_urls --header 'Authorization: env:API_TOKEN' https://api.example.org/items
  manage.py fetch_urls --file urls.txt --workers 2 --split-hosts 2
  manage.py fetch_urls --retry-failed 12 --cause dns,timeout,http_status:5xx --max-attempts 8
  manage.py fetch_urls --retry-failed 12 --plan
  manage.py fetch_urls --file urls.txt --quiet    # in a crontab: no output when all is well
  manage.py fetch_urls --resume
  manage.py fetch_urls --resume 12 --workers 2 --output ndjson
  manage.py fetch_urls --file urls.txt --queue
  manage.py fetch_urls --file urls.txt --queue --wait --output ndjson
  manage.py fetch_urls --resume 12 --queue

exit codes:
  0    every URL succeeded (or was not modified)
  1    an error: no database, a file that cannot be read; or standard output cannot be written (all is still saved)
  2    wrong usage
  3    finished, but some URLs failed or some lines are no URLs (0 with --exit-zero)
  130, 143    interrupted by Ctrl-C or SIGTERM: what was in flight is saved, and the command that goes on is printed;
              with --queue the cluster goes on

With --queue a run is fetched by the cluster (manage.py qcluster). Without --wait the exit code is that of handing it
over: 0, or 3 where some lines are no URLs.
"""


class Command(TrawlCommand):
    """Thin: read the call, hand it to the service, report."""

    help = "Fetch URLs concurrently, politely and with retries, and save every outcome to the database."
    epilog = _EPILOG
    usage = "[options] [URL ...]"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options of the design's contract that exist so far."""
        add_source_options(parser)
        parser.add_argument("--label", help="a name for the run, to find it by")
        parser.add_argument(
            "--plan",
            action="store_true",
            help="request and save nothing: show what would be fetched, by host, and how long it takes at least",
        )
        add_resume_option(parser)
        add_retry_options(parser)
        group = parser.add_argument_group("processes")
        add_workers_option(group)
        add_split_option(group)
        add_queue_options(group)
        add_request_options(parser)
        add_fetch_options(parser)
        add_output_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Fetch, and exit with the code that says how it went."""
        queued = is_queued(options)
        if is_resume(options):
            resume(options, stdout=self.stdout, stderr=self.stderr)
            return
        try:
            check_label(options["label"] or "")
        except ValueError as exc:
            raise CommandError(f"argument --label: {exc}", returncode=USAGE) from None
        if options["plan"] and options["output"] == "ndjson":
            raise CommandError("argument --plan: prints one summary; use --output summary or json", returncode=USAGE)
        if is_retry(options):
            retry_failed(options, stdout=self.stdout, stderr=self.stderr)
            return
        config = config_from(options)
        run_options = options_from(options, stdin_is_source="-" in options["urls"] + options["file"])
        inputs = inputs_from(options, self.stderr)
        ensure_database()
        try:
            entries = Inputs(inputs)
        except SourceError as exc:
            raise CommandError(str(exc)) from None
        if warning := shortage(urls_in(Path(path) for path in options["file"] if path != "-")):
            self.stderr.write(warning)
        if options["plan"]:
            show_plan(
                find_in(entries, config, run_options),
                config,
                output=options["output"],
                exit_zero=options["exit_zero"],
                stdout=self.stdout,
                stderr=self.stderr,
            )
            return
        if queued:
            hand_over(
                _queueing(entries, config, run_options, options),
                options,
                source=entries.description,
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
            quiet=is_quiet(options),
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


def _queueing(entries: Inputs, config: FetchConfig, run_options: RunOptions, options: dict[str, Any]) -> Planning:
    return lambda listener, control, dispatcher: queue_list(
        entries,
        config,
        run_options,
        dispatcher=dispatcher,
        label=options["label"] or "",
        source=entries.description,
        listener=listener,
        control=control,
    )
