"""Jobs are added, changed, paused, removed; their lists imported and exported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
from django.core.management.base import CommandError, OutputWrapper
from django.utils import timezone

from fetcher.bootstrap import ensure_database
from fetcher.cli.calling import inputs_from
from fetcher.cli.execution import SOME_FAILED, Rejections, clear_errors
from fetcher.cli.options import OPTIONS, USAGE, config_from, options_from
from fetcher.cli.progress import Reporter
from fetcher.cli.streams import ends_when_lost, raw_stream, use_utf8
from fetcher.cli.text import count
from fetcher.engine.config import FetchConfig
from fetcher.options import RunOptions
from fetcher.payloads import encode_line
from fetcher.sources import Inputs, SourceError
from fetcher.store.runs import load_config, load_options
from jobs import store
from jobs.cli.options import policies_from, schedule_from
from jobs.cli.showing import by_its_clock
from jobs.lists import export_targets, imported
from jobs.models import Job, TargetList
from jobs.payloads import due
from jobs.schedules import Schedule
from jobs.store import JobError, Wanted

_OF_THE_LIST = {"method": "--method", "data": "--data"}
"""Options that went into each target when the list was imported."""
_FETCHING = (
    *(option.field for option in OPTIONS),
    "header", "allow_network", "user_env", "extract", "keep_body", "conditional",
)  # fmt: skip


@contextlib.contextmanager
def editing() -> Iterator[None]:
    """Run the block on a database that is ready; what a user can mend is one line."""
    ensure_database()
    try:
        with clear_errors():
            yield
    except (JobError, SourceError) as exc:
        raise CommandError(str(exc)) from None


def add(options: dict[str, Any], *, stdout: OutputWrapper, stderr: OutputWrapper) -> None:
    """Add a job; all of it, or nothing. Raises CommandError, SystemExit (3) where lines were rejected."""
    schedule = schedule_from(options) or Schedule()
    config, run_options = config_from(options), _run_options(options)
    with editing():
        store.check_new(options["name"])
        with _importing(options, config, run_options, stderr) as found:
            wanted = Wanted(config, run_options, schedule, policies_from(options))
            job = store.create_job(options["name"], found, wanted)
    _say_imported(f"job {options['name']} added", found, stdout, _when(job))


def replace(options: dict[str, Any], *, stdout: OutputWrapper, stderr: OutputWrapper) -> None:
    """Replace a job's list. Raises CommandError, SystemExit (3) where lines were rejected."""
    with editing():
        job = store.find_job(options["name"])
        with _importing(options, load_config(job), load_options(job), stderr) as found:
            store.replace_list(job.name, found)
    _say_imported(f"job {options['name']} has a new list", found, stdout)


@contextlib.contextmanager
def _importing(
    options: dict[str, Any], config: FetchConfig, run_options: RunOptions, stderr: OutputWrapper
) -> Iterator[TargetList]:
    entries = Inputs(inputs_from(options, stderr))
    reporter = Reporter("none", raw_stream(stderr))
    entries.listen(reporter.message)
    rejected = Rejections(reporter, kept=False)
    try:
        with imported(entries, config, run_options, source=entries.description, rejected=rejected) as found:
            if not found.size:
                raise CommandError(f"there is no URL in {entries.description}; nothing was saved")
            yield found
    except KeyboardInterrupt:
        raise CommandError("interrupted; nothing was saved", returncode=130) from None


def _when(job: Job) -> str:
    """Say when a job is due next, and who fetches it then; nothing where it has no schedule or is paused."""
    times = due(job, timezone.now(), 1)
    return f"due next {by_its_clock(times[0], job.time_zone)}, where manage.py qcluster runs" if times else ""


def _say_imported(what: str, found: TargetList, stdout: OutputWrapper, when: str = "") -> None:
    passed_over = "".join(
        f", {count(number, noun)}"
        for number, noun in ((found.duplicates, "duplicate"), (found.rejected, "rejected line"))
        if number
    )
    stdout.write(f"{what}: {count(found.size, 'target')}{passed_over}")
    if when:
        stdout.write(when)
    if found.rejected:
        raise SystemExit(SOME_FAILED)


def _run_options(options: dict[str, Any]) -> RunOptions:
    return options_from(options, stdin_is_source="-" in options["urls"] + options["file"])


def change(options: dict[str, Any], *, stdout: OutputWrapper) -> None:
    """Change options, schedule or policies. Raises CommandError."""
    for name, flag in _OF_THE_LIST.items():
        if options[name] is not None:
            raise CommandError(
                f"argument {flag}: went into each target when the list was imported; remove the job and add it anew",
                returncode=USAGE,
            )
    with editing():
        job = store.find_job(options["name"])
        schedule = schedule_from(options, job.schedule)
        policies = policies_from(options)
        config = run_options = None
        if any(options[name] not in (None, []) for name in _FETCHING):
            config = config_from(options, load_config(job))
            run_options = options_from(options, load_options(job))
        elif schedule is None and not policies:
            raise CommandError("say what to change (see job set --help)", returncode=USAGE)
        job = store.change_job(job.name, Wanted(config, run_options, schedule, policies))
    stdout.write(f"job {job.name} changed")
    if schedule is not None and (when := _when(job)):
        stdout.write(when)


def export(options: dict[str, Any], *, stdout: OutputWrapper, stderr: OutputWrapper) -> None:
    """Print a job's targets as JSON lines. Raises CommandError."""
    out = raw_stream(stdout)
    use_utf8(out)
    secret = binary = 0
    with editing(), ends_when_lost(out):
        for item in export_targets(store.find_job(options["name"]).list_id):
            out.write(encode_line(msgspec.to_builtins(item.target)).decode())
            secret += item.secret
            binary += item.binary
        out.flush()
    if secret:
        stderr.write(f"{count(secret, 'target')} had headers with secret values, which were left out")
    if binary:
        stderr.write(f"{count(binary, 'target')} had a body that is no text, which was left out")


def switch(options: dict[str, Any], *, enabled: bool, stdout: OutputWrapper) -> None:
    """Pause or resume a job. Raises CommandError."""
    with editing():
        changed = store.pause_or_resume(options["name"], enabled=enabled)
    state = "enabled" if enabled else "paused"
    stdout.write(f"job {options['name']} {'is' if changed else 'was'} {state}{'' if changed else ' already'}")


def remove(options: dict[str, Any], *, stdout: OutputWrapper) -> None:
    """Remove a job. Raises CommandError."""
    with editing():
        store.remove_job(options["name"])
    stdout.write(f"job {options['name']} removed; its runs stay (prune_runs removes old ones)")
