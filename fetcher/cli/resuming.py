"""``fetch_urls --resume``: an interrupted run is finished with the options that it was begun with."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser, OutputWrapper

from fetcher.bootstrap import ensure_database
from fetcher.cli.calling import is_quiet
from fetcher.cli.execution import clear_errors, follow
from fetcher.cli.lookup import LATEST, find_run, run_reference
from fetcher.cli.options import USAGE
from fetcher.cli.queueing import hand_over
from fetcher.models import Run, RunState
from fetcher.queueing import queue_again
from fetcher.service import resume_run

_OF_THIS_PROCESS = frozenset({"resume", "workers", "queue", "wait", "output", "progress", "exit_zero"})
_DJANGO = frozenset({
    "verbosity", "settings", "pythonpath", "traceback", "no_color", "force_color", "skip_checks", "stdout", "stderr",
})  # fmt: skip
_YES_OR_NO = frozenset({"keep_body", "conditional"})
_NOT_GIVEN: tuple[Any, ...] = (None, False, [], "", "auto")


def add_resume_option(parser: CommandParser) -> None:
    """Add ``--resume``."""
    parser.add_argument(
        "--resume",
        metavar="RUN",
        nargs="?",
        type=_reference,
        const=LATEST,
        help="finish an interrupted run, the latest or the one with this number, with the options that it was begun "
        "with: what has a result is not fetched again, and its input is read on where it ended",
    )


def is_resume(options: dict[str, Any]) -> bool:
    """Whether the call is one to resume. Raises CommandError (usage) for what the run has already."""
    if options["resume"] is None:
        return False
    if options["urls"]:
        raise CommandError(
            f"argument --resume: the run goes on with its own input; {options['urls'][0]!r} is no run's number",
            returncode=USAGE,
        )
    for name in sorted(options.keys() - _OF_THIS_PROCESS - _DJANGO):
        if options[name] not in _NOT_GIVEN or (options[name] is False and name in _YES_OR_NO):
            flag = {"keep_body": "--body", "user_env": "--user-env"}.get(name, f"--{name.replace('_', '-')}")
            raise CommandError(
                f"argument {flag}: not allowed with --resume: the run goes on with the options that it was begun with",
                returncode=USAGE,
            )
    return True


def resume(options: dict[str, Any], *, stdout: OutputWrapper, stderr: OutputWrapper) -> None:
    """Finish the run, and end as ``follow`` does."""
    ensure_database()
    with clear_errors():
        run = _latest_interrupted() if options["resume"] == LATEST else find_run(int(options["resume"])).id
    if options["queue"]:
        hand_over(
            lambda listener, control, dispatcher: queue_again(
                run, dispatcher=dispatcher, listener=listener, control=control
            ),
            options,
            known=run,
            stdout=stdout,
            stderr=stderr,
        )
        return
    follow(
        lambda listener, control: resume_run(run, listener=listener, control=control, workers=options["workers"]),
        output=options["output"],
        progress_style=options["progress"],
        exit_zero=options["exit_zero"],
        quiet=is_quiet(options),
        stdout=stdout,
        stderr=stderr,
    )


def _latest_interrupted() -> int:
    found = Run.objects.in_state(RunState.INTERRUPTED).order_by("-id").values_list("id", flat=True).first()
    if found is None:
        raise CommandError("there is no interrupted run to resume; manage.py runs list shows which runs there are")
    return found


def _reference(text: str) -> str:
    """Check a run's number or ``latest`` and return it as it is: None says that the option was not given."""
    run_reference(text)
    return text
