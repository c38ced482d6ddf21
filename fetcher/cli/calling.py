"""Options that several commands have: where URLs come from, how many processes, what is printed."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import CommandError, CommandParser, OutputWrapper

from fetcher.cli.options import USAGE
from fetcher.cli.output import OUTPUTS
from fetcher.cli.progress import STYLES
from fetcher.cli.typed import completed_all
from fetcher.options import MAX_SPLIT
from fetcher.sources import FORMATS, Input

_MOST_WORKERS = 64


def add_source_options(parser: CommandParser) -> None:
    """Add what ``inputs_from`` reads."""
    parser.add_argument(
        "urls",
        nargs="*",
        metavar="URL",
        help="URLs to fetch, https where no scheme is given; a single - reads standard input",
    )
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
        help="what the files hold; auto: by content, then by name (default: auto)",
    )


def inputs_from(options: dict[str, Any], stderr: OutputWrapper) -> list[Input]:
    """Return what is to be read, in order; a note on ``stderr`` names URLs without a scheme.

    Raises CommandError (usage).
    """
    urls, files = options["urls"], options["file"]
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
    urls = completed_all(urls, (lambda text: None) if is_quiet(options) else stderr.write)
    return [*([Input.arguments(urls)] if urls else []), *(Input.file(path, options["format"]) for path in files)]


def add_workers_option(group: argparse._ActionsContainer) -> None:
    """Add ``--workers``."""
    group.add_argument(
        "--workers",
        metavar="N",
        type=whole_number(1, _MOST_WORKERS),
        default=1,
        help="processes on this machine that share the run and its --concurrency (default: 1)",
    )


def add_split_option(group: argparse._ActionsContainer) -> None:
    """Add ``--split-hosts``."""
    group.add_argument(
        "--split-hosts",
        metavar="N",
        type=whole_number(1, MAX_SPLIT),
        help="let up to N processes ask one host at once, each up to --per-host; otherwise a host keeps only one "
        "of them busy (default: 1)",
    )


def add_output_options(parser: CommandParser) -> None:
    """Add what ``follow`` shows, and how."""
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
    add_quiet_option(group)


_QUIET = (
    "for crontabs, the same as -v 0: print nothing when all is well. What fails is told on standard error; JSON that "
    "--output asks for is printed, and exit codes stay"
)


def add_quiet_option(group: argparse._ActionsContainer, text: str = _QUIET) -> None:
    """Add ``--quiet``, which ``is_quiet`` reads."""
    group.add_argument(
        "--quiet",
        dest="verbosity",
        action="store_const",
        const=0,
        default=argparse.SUPPRESS,
        help=text,
    )


def is_quiet(options: dict[str, Any]) -> bool:
    """Whether a command prints nothing when all is well."""
    return options.get("verbosity") == 0


def whole_number(least: int, most: int) -> Any:
    """Return the function that reads a whole number within bounds. For argparse."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or not least <= int(text[:7]) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, not {text[:100]!r}")
        return int(text)

    return read
