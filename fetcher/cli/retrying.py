"""``fetch_urls --retry-failed``: the failures of another run, with its options and those given on top."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandError, CommandParser, OutputWrapper

from fetcher import conf
from fetcher.bootstrap import ensure_database
from fetcher.causes import Cause, parse_causes
from fetcher.cli.calling import is_quiet
from fetcher.cli.execution import clear_errors, follow
from fetcher.cli.lookup import find_run, run_reference
from fetcher.cli.options import USAGE, checked_value, config_from, given_headers, options_from
from fetcher.cli.output import print_no_run
from fetcher.cli.preview import show_plan
from fetcher.cli.progress import Reporter
from fetcher.cli.queueing import hand_over
from fetcher.cli.streams import raw_stream
from fetcher.cli.summary import failure_reasons
from fetcher.cli.text import count, program
from fetcher.engine.config import FetchConfig
from fetcher.engine.errors import ErrorKind
from fetcher.engine.request_headers import effective_headers
from fetcher.models import Run, RunState
from fetcher.options import RunOptions
from fetcher.preview import preview_failures
from fetcher.queueing import queue_failures
from fetcher.service import fetch_failures
from fetcher.store import runs
from fetcher.store.retry import has_failures

_ELSEWHERE = {
    "urls": ("URL", "its URLs are those of the other run"),
    "file": ("--file", "its URLs are those of the other run"),
    "format": ("--format", "its URLs are those of the other run"),
    "resume": ("--resume", "a run is either finished, or another one is made of its failures"),
    "method": ("--method", "each target keeps the method and body that it had"),
    "data": ("--data", "each target keeps the method and body that it had"),
}
"""Options that say something else of a run's targets, and why they do not go with its failures."""


def add_retry_options(parser: CommandParser) -> None:
    """Add ``--retry-failed`` and ``--cause``."""
    group = parser.add_argument_group("what failed before")
    group.add_argument(
        "--retry-failed",
        metavar="RUN",
        type=_reference,
        help="a new run over the failed and skipped URLs of this one (a number, or latest), with its options and those "
        "given here on top",
    )
    group.add_argument(
        "--cause",
        metavar="KIND,...",
        action="append",
        type=checked_value(parse_causes),
        default=[],
        help="only what failed by one of these, with --retry-failed; http_status may be narrowed to http_status:429 or "
        f"http_status:5xx; repeatable. Kinds: {', '.join(ErrorKind)}",
    )


def is_retry(options: dict[str, Any]) -> bool:
    """Whether the call is one for another run's failures. Raises CommandError (usage) for what cannot be combined."""
    if not options["retry_failed"]:
        if options["cause"]:
            raise CommandError("argument --cause: goes with --retry-failed RUN only", returncode=USAGE)
        return False
    for name, (flag, reason) in _ELSEWHERE.items():
        if options.get(name) not in (None, False, [], "auto"):
            raise CommandError(f"argument {flag}: not allowed with --retry-failed: {reason}", returncode=USAGE)
    return True


def retry_failed(options: dict[str, Any], *, stdout: OutputWrapper, stderr: OutputWrapper) -> None:
    """Fetch again what failed, and end as ``follow`` does; where nothing did, say so and make no run."""
    ensure_database()
    causes = tuple(cause for several in options["cause"] for cause in several)
    reporter = Reporter("none", raw_stream(stderr), quiet=is_quiet(options))
    with clear_errors():
        found = find_run(run_reference(options["retry_failed"]))
        if found.state in (RunState.PENDING, RunState.RUNNING):
            raise CommandError(
                f"run {found.id} is {found.state}: its failures can be fetched again when it is over "
                f"({program()} runs show {found.id} --watch waits for that)"
            )
        run = Run.objects.get(pk=found.id)
        config, run_options = _config(run, options), options_from(options, runs.load_options(run))
        if not has_failures(run.pk, causes):
            reporter.message(_nothing(run.pk, causes))
            print_no_run(stdout, options["output"])
            return
    if found.pending:
        reporter.message(
            f"run {run.pk} has {count(found.pending, 'target')} without a result, which are not among its failures; "
            f"fetch_urls --resume {run.pk} fetches them"
        )
    if options["plan"]:
        show_plan(
            lambda reporter: preview_failures(run.pk, causes, config, run_options),
            config,
            output=options["output"],
            exit_zero=options["exit_zero"],
            stdout=stdout,
            stderr=stderr,
        )
        return
    _retry(run, causes, config, run_options, options, stdout, stderr)


def _retry(
    run: Run,
    causes: Sequence[Cause],
    config: FetchConfig,
    run_options: RunOptions,
    options: dict[str, Any],
    stdout: OutputWrapper,
    stderr: OutputWrapper,
) -> None:
    """Fetch here, or have the cluster do it."""
    label = run.label if options["label"] is None else options["label"]
    given = (run.pk, causes, config, run_options)
    if options["queue"]:
        hand_over(
            lambda listener, control, dispatcher: queue_failures(
                *given, dispatcher=dispatcher, label=label, listener=listener, control=control
            ),
            options,
            source=f"run {run.pk}",
            stdout=stdout,
            stderr=stderr,
        )
        return
    follow(
        lambda listener, control: fetch_failures(
            *given, label=label, listener=listener, control=control, workers=options["workers"]
        ),
        source=f"run {run.pk}",
        output=options["output"],
        progress_style=options["progress"],
        exit_zero=options["exit_zero"],
        quiet=is_quiet(options),
        stdout=stdout,
        stderr=stderr,
    )


def _config(run: Run, options: dict[str, Any]) -> FetchConfig:
    """Return the run's configuration with the options on top.

    What the settings allow and what they keep secret is added as it is now. A header whose secret value went with the
    run must be given again, unless the settings have it.
    """
    settings = conf.fetch_config()
    before = runs.load_config(run)
    wiped = {name.lower(): name for name in runs.wiped_headers(run)}
    again = tuple(pair for pair in settings.headers if pair[0].lower() in wiped)
    base = dataclasses.replace(
        before,
        headers=effective_headers(before.headers, again),
        secret_headers=before.secret_headers | settings.secret_headers,
        secret_parameters=before.secret_parameters | settings.secret_parameters,
        allowed_networks=tuple(dict.fromkeys((*before.allowed_networks, *settings.allowed_networks))),
    )
    known = {name.lower() for name, _ in (*again, *given_headers(options))}
    if lost := [name for key, name in wiped.items() if key not in known]:
        flags = " ".join(f"--header '{name}: …'" for name in lost)
        raise CommandError(
            f"the value of {', '.join(lost)} was secret and was removed when run {run.pk} was over; "
            f"give it again: {flags}"
        )
    return config_from(options, base)


def _nothing(run: int, causes: Sequence[Cause]) -> str:
    failed = ", ".join(f"{count(reason.number)} {reason.text}" for reason in failure_reasons(run)) if causes else ""
    by = f" by {', '.join(map(str, causes))}" if causes else ""
    return f"run {run} has no failures{by}{f'; it has {failed}' if failed else ''}: nothing is fetched"


def _reference(text: str) -> str:
    """Check a run's number or ``latest`` and return it as it is: None says that the option was not given."""
    run_reference(text)
    return text
