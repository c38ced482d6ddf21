"""``manage.py demo``: Trawl at work on an origin of its own, without any network."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from fetcher import conf
from fetcher.bootstrap import ensure_database
from fetcher.cli.command import TrawlCommand
from fetcher.cli.execution import follow
from fetcher.cli.progress import STYLES
from fetcher.cli.text import program
from fetcher.demo.origin import Origin, ThreadedOrigin
from fetcher.demo.scenarios import AGAIN, DEMO_OPTIONS, FIRST, LISTENERS, Scenario, check, urls
from fetcher.engine.addresses import AllowedNetwork
from fetcher.engine.config import FetchConfig
from fetcher.models import Result
from fetcher.service import fetch_list
from fetcher.sources import Input, Inputs

_EPILOG = """\
It starts a small web server on a free port of this machine, whose answers are scripted: fine ones, slow ones,
redirects, compressed bodies, a 429 that asks for patience, a 503 that recovers, timeouts, resets, a body that is
too large. It fetches some two hundred URLs from it, then some of them again to show conditional requests, and
compares every outcome with the script.

exit codes:
  0    every outcome is as scripted
  1    some are not
"""


class Command(TrawlCommand):
    """Thin: start the origin, fetch from it twice, compare."""

    help = "Fetch some two hundred scripted URLs from a server on this machine; works offline."
    epilog = _EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--progress", choices=STYLES, default="auto", help="as of fetch_urls (default: auto)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run both passes and compare."""
        ensure_database()
        with ThreadedOrigin(listeners=LISTENERS) as origin:
            allowed = tuple(AllowedNetwork.parse(origin.netloc(number)) for number in range(LISTENERS))
            config = conf.fetch_config({**DEMO_OPTIONS, "allowed_networks": allowed})
            self.stdout.write(
                f"A scripted origin listens on {origin.netloc()}. Fetching {len(FIRST)} URLs from it.\n\n"
            )
            mismatches = self._fetch(FIRST, "demo", origin, config, options["progress"])
            self.stdout.write(f"\nFetching {len(AGAIN)} of them again: the origin says that nothing changed.\n\n")
            mismatches += self._fetch(AGAIN, "demo, again", origin, config, options["progress"])
        if mismatches:
            raise CommandError("not as scripted:\n  " + "\n  ".join(mismatches))
        self.stdout.write(
            "\nEvery outcome is as scripted. Next, fetch a list of your own:\n\n"
            f"  {program()} fetch_urls https://example.org/\n"
        )

    def _fetch(
        self, scenarios: tuple[Scenario, ...], label: str, origin: Origin, config: FetchConfig, progress_style: str
    ) -> list[str]:
        """Fetch the scenarios' URLs as one run and return what is not as scripted."""
        targets = Inputs([Input.arguments(urls(scenarios, origin.url))])
        progress = follow(
            lambda listener, control: fetch_list(
                targets, config, label=label, source="demo", listener=listener, control=control
            ),
            progress_style=progress_style,
            exit_zero=True,
            stdout=self.stdout,
            stderr=self.stderr,
        )
        rows = Result.objects.filter(run=progress.run).values(
            "status", "error_kind", "http_status", "attempts", "target__url"
        )
        return [str(mismatch) for mismatch in check(scenarios, [{**row, "url": row["target__url"]} for row in rows])]
