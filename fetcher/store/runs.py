"""A run from its creation to its end, and its options to and from the row."""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Protocol

import msgspec
from django.db import transaction
from django.db.models import Sum

from fetcher.conf import read_value
from fetcher.engine.config import CONFIG_FIELDS, ConfigError, FetchConfig, operator_value, resolve_header
from fetcher.engine.references import HeaderValue, RequestHeaders
from fetcher.engine.request_headers import CONDITIONAL_HEADERS, effective_headers
from fetcher.engine.types import Headers
from fetcher.headers import Sealed, dump_headers, load_headers, secret_values
from fetcher.models import OVER, Lane, ResultStatus, Run, RunState, Worker
from fetcher.models.clock import database_now
from fetcher.options import RunOptions
from fetcher.secrets import derived_key, seal, unseal
from fetcher.store import leases, waiting
from fetcher.store.shards import wipe_secrets
from fetcher.texts import clean_text

_STORED = ("method", "extract", "keep_body", "conditional", "split_hosts")
_COUNTERS = ("planned", *ResultStatus.values, "bytes")


class Secrets(msgspec.Struct, omit_defaults=True):
    """What is stored sealed with a run until it is over: literal secrets of its headers, the body that is sent.

    ``values`` are those of the headers that the options have without one, in their order. A body may hold a password,
    and no name tells. ``headers`` is how earlier versions stored all headers: there references were text.
    """

    headers: Headers | None = None
    data: bytes | None = None
    values: Sealed = ()


class Asked(Protocol):
    """A row that keeps what was asked for: options without secrets, and these sealed."""

    @property
    def options(self) -> Any:
        """What ``dump_options`` returned."""

    @property
    def secrets(self) -> Any:
        """What ``dump_secrets`` returned."""


class NotResumable(Exception):
    """A run cannot be gone on with; the text says why."""


class RunBusy(NotResumable):
    """Other processes are working on it."""


def create_run(
    config: FetchConfig,
    options: RunOptions | None = None,
    *,
    label: str = "",
    source: str = "",
    parent: int | None = None,
    inputs: list[dict[str, Any]] | None = None,
    job: tuple[int, str] | None = None,
) -> int:
    """Add a pending run and return its id. Values of literal secret headers are stored sealed.

    ``inputs`` is what to read (``Inputs.dump``), None for what cannot be read again. ``job`` is the id and name of the
    job that the run is one of.
    """
    options = options or RunOptions()
    job_id, job_name = job or (None, "")
    run = Run.objects.create(
        label=clean_text(label)[:200],
        source=clean_text(source),
        options=dump_options(config, options),
        parent_id=parent,
        inputs=inputs,
        secrets=dump_secrets(config, options),
        job_id=job_id,
        job_name=job_name,
    )
    return run.pk


def dump_secrets(config: FetchConfig, options: RunOptions) -> bytes | None:
    """Return what must not be read from the options, sealed; None where there is no secret."""
    values = secret_values(config, config.headers)
    secrets = Secrets(data=options.data, values=values if any(value is not None for value in values) else ())
    return seal(secrets) if secrets != Secrets() else None


def expect_secrets(run: int) -> None:
    """Note that shards of a run hold secrets, so that they are wiped when it is over."""
    Run.objects.filter(pk=run, secrets__isnull=True).update(secrets=seal(Secrets()))


def dump_options(config: FetchConfig, more: RunOptions | None = None) -> dict[str, Any]:
    """Return what a run was asked for as JSON values, by field name, without any secret; of ``data`` its length."""
    more = more or RunOptions()
    options: dict[str, Any] = {
        "method": more.method,
        "data_bytes": None if more.data is None else len(more.data),
        "extract": more.extract,
        "keep_body": more.keep_body,
        "conditional": more.conditional,
        "split_hosts": more.split_hosts,
    }
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        match field.name:
            case "headers":
                value = dump_headers(config, value)
            case "secret_headers" | "secret_parameters" | "guarded_headers":
                value = sorted(value)
            case "headers_hosts":
                value = list(value)
            case "allowed_networks":
                value = [str(network) for network in value]
        options[field.name] = value
    return options


def load_config(run: Asked) -> FetchConfig:
    """Return the configuration that a run or a job was created with. Raises UnsealError, ConfigError.

    Headers whose secret values are not stored any more have None (``wiped_headers``), which is never sent.
    """
    options = {name: run.options[name] for name in CONFIG_FIELDS if name in run.options}
    options["headers"] = _load_headers(options["headers"], _unsealed(run))
    for name in ("secret_headers", "secret_parameters", "guarded_headers"):  # runs of older versions lack some
        options[name] = frozenset(options.get(name, ()))
    options["headers_hosts"] = tuple(options.get("headers_hosts", ()))
    options["allowed_networks"] = read_value("allowed_networks", options["allowed_networks"])
    return FetchConfig(**options)


def _load_headers(stored: Any, sealed: Secrets) -> RequestHeaders:
    if sealed.headers is not None:  # of an earlier version, whose options came from the operator alone
        return tuple((name, operator_value(name, text)) for name, text in sealed.headers)
    return load_headers(stored, sealed.values)


def load_options(run: Asked) -> RunOptions:
    """Return the other options that a run was created with. Raises UnsealError, ConfigError."""
    options = {name: run.options[name] for name in _STORED if name in run.options}
    return RunOptions(data=_unsealed(run).data, **options)


def wiped_headers(run: Run) -> list[str]:
    """Return the names of a run's headers whose values were secret and are not stored any more: the run was over."""
    return [name for name, value in _load_headers(run.options["headers"], _unsealed(run)) if value is None]


def _unsealed(run: Asked) -> Secrets:
    return unseal(bytes(run.secrets), Secrets) if run.secrets else Secrets()


def variant_of(config: FetchConfig) -> Callable[[RequestHeaders], bytes]:
    """Return the function from a target's own headers to its variant (16 bytes).

    The variant is an HMAC of all headers that are sent but User-Agent and conditionals, references looked up: what one
    set of credentials got is never confirmed to another.
    """
    key = derived_key("variant")
    ignored = CONDITIONAL_HEADERS | {"user-agent"}
    # Some hosts do not get these: what is asked so is never confirmed to a run in which all do, nor the reverse.
    guarded = f"\n\n{sorted(config.guarded_headers)} {config.headers_hosts}" if config.guarded_headers else ""
    known: dict[RequestHeaders, bytes] = {}

    def variant(own: RequestHeaders) -> bytes:
        if own not in known:
            headers = effective_headers(config.headers, own)
            pairs = sorted((name.lower(), _value(name, value)) for name, value in headers)
            text = "\n".join(f"{name}: {value}" for name, value in pairs if name not in ignored)
            text += guarded
            if len(known) > 1000:
                known.clear()
            known[own] = hmac.digest(key, text.encode(), sha256)[:16]
        return known[own]

    return variant


def _value(name: str, value: HeaderValue) -> str:
    try:
        return resolve_header(name, value)
    except ConfigError:  # a target's own; sending it fails with this very reason
        return str(value)


def start(run: int, worker: int | None = None) -> None:
    """Note that fetching has begun, and that the worker reads the source."""
    Run.objects.filter(pk=run, state__in=[RunState.PENDING, RunState.INTERRUPTED]).update(
        state=RunState.RUNNING, started_at=database_now(), finished_at=None, planner=worker
    )


def resume(run: int, worker: int) -> None:
    """Go on with a run that was interrupted: from now on the worker is the one that reads the source.

    Raises NotResumable where the run is over, or where another worker is there for it.
    """
    gone = leases.Watch().gone(but=worker)
    with transaction.atomic():
        row = Run.objects.select_for_update().get(pk=run)
        if row.state in OVER:
            raise NotResumable(f"run {run} is {row.state}: there is nothing to resume")
        now = database_now()
        others = Worker.objects.of_run(run).exclude(id__in=[*gone, worker]).filter(expires_at__gt=now)
        if other := others.order_by("-expires_at").first():
            heard = max(0, round((now - other.expires_at + leases.LEASE).total_seconds()))
            where = " on the cluster" if row.woken_at is not None else ""
            raise RunBusy(
                f"run {run} is in progress{where}: process {other.pid} on {other.hostname} was heard of {heard} s "
                f"ago. Follow it with: manage.py runs show {run} --watch; stop it with: manage.py runs cancel {run}. "
                f"If that process is gone, try again in {max(1, round((other.expires_at - now).total_seconds()))} s"
            )
        row.state, row.planner, row.finished_at = RunState.RUNNING, worker, None
        row.woken_at = None  # whoever resumes it has it from now on
        row.started_at = row.started_at or database_now()
        row.save(update_fields=["state", "planner", "finished_at", "started_at", "woken_at"])


def planned(run: int) -> None:
    """Note that the whole source was read."""
    Run.objects.filter(pk=run).update(planned_at=database_now(), planner=None)


def finish(
    run: int, *, worker: int | None = None, failed: bool = False, error: str = "", deserted: bool = False
) -> RunState:
    """End this process's part of a run and return the state that it is in now.

    It is completed when its source was read to the end and every target has a result, failed when the caller says that
    it cannot go on (``error``: why), interrupted otherwise, and cancelled if it was. Stored secrets are wiped once the
    run is over, of a cancelled one when the last of its processes ends it, or it is known to be ``deserted``. Where
    another process went on with the run in the place of ``worker``, its end is left to that.
    """
    state = _state(run, failed=failed)
    if state is RunState.CANCELLED and not deserted and has_workers(run):
        return state  # what they are about to send must not lack its secrets: the last of them ends the run
    if state in OVER and Run.objects.filter(pk=run, secrets__isnull=False).exists():
        wipe_secrets(run)  # before the run is over for all to see
    with transaction.atomic():
        row = Run.objects.select_for_update(no_key=True).get(pk=run)
        state = _state(run, failed=failed)
        if worker is not None and row.planner not in (None, worker):
            return state
        row.state = state
        row.finished_at = database_now()
        row.planner = row.woken_at = None
        row.error = clean_text(error)
        if state in OVER:
            waiting.forget(run)
            row.secrets = row.inputs = row.trouble = None
        row.save(update_fields=["state", "finished_at", "planner", "woken_at", "error", "secrets", "inputs", "trouble"])
    return state


def cancel(run: int) -> RunState:
    """Have nothing more of a run fetched, and return the state that it was in.

    Its workers see it within a second or two (``is_cancelled``); the last of them leaves the run over, as ``finish``
    does. Raises Run.DoesNotExist.
    """
    with transaction.atomic():
        row = Run.objects.select_for_update().get(pk=run)
        before = RunState(row.state)
        if before in OVER:
            return before
        row.state, row.finished_at, row.woken_at = RunState.CANCELLED, database_now(), None
        row.save(update_fields=["state", "finished_at", "woken_at"])
    finish(run)
    return before


def has_workers(run: int) -> bool:
    """Whether processes work on a run, or read its source, as far as is known."""
    return Worker.objects.of_run(run).exclude(id__in=leases.Watch().gone(but=0)).exists()


def is_cancelled(run: int) -> bool:
    """Whether somebody wants nothing more of it fetched."""
    return Run.objects.filter(pk=run, state=RunState.CANCELLED).exists()


def _state(run: int, *, failed: bool) -> RunState:
    if is_cancelled(run):
        return RunState.CANCELLED
    if failed:
        return RunState.FAILED
    read = Run.objects.filter(pk=run, planned_at__isnull=False).exists()
    return RunState.COMPLETED if read and pending(run) == 0 else RunState.INTERRUPTED


def counts(run: int) -> dict[str, int]:
    """Return the sums of a run's lane counters: ``planned`` targets, results by status, ``bytes``."""
    found = Lane.objects.filter(run=run).aggregate(**{name: Sum(name) for name in _COUNTERS})
    return {name: found[name] or 0 for name in _COUNTERS}


def pending(run: int) -> int:
    """Count a run's targets without a result, from its lanes' counters."""
    found = counts(run)
    return found["planned"] - sum(found[status] for status in ResultStatus.values)
