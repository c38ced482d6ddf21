"""A run from its creation to its end, and its options to and from the row."""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from django.db import transaction
from django.db.models import F, Sum
from django.utils import timezone

from fetcher.conf import read_value
from fetcher.engine.client import CONDITIONAL_HEADERS, effective_headers
from fetcher.engine.config import FetchConfig, resolve_header
from fetcher.engine.types import Headers
from fetcher.models import Lane, Run, RunState
from fetcher.secrets import derived_key, seal, unseal
from fetcher.store.sql import storable

REDACTED = "***"
_OVER = (RunState.COMPLETED, RunState.CANCELLED, RunState.FAILED)


def create_run(config: FetchConfig, *, label: str = "", source: str = "") -> int:
    """Add a pending run and return its id. Literal secret headers are stored sealed, and shown as ``***``."""
    options = dump_options(config)
    literal = any(config.is_secret(*pair) and not pair[1].startswith("env:") for pair in config.headers)
    run = Run.objects.create(
        label=storable(label)[:200],
        source=storable(source),
        options=options,
        secrets=seal(config.headers) if literal else None,
    )
    return run.pk


def dump_options(config: FetchConfig) -> dict[str, Any]:
    """Return a configuration as JSON values, by field name, without any secret."""
    options: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        match field.name:
            case "headers":
                value = [[name, shown(config, name, text)] for name, text in value]
            case "secret_headers":
                value = sorted(value)
            case "allowed_networks":
                value = [str(network) for network in value]
        options[field.name] = value
    return options


def shown(config: FetchConfig, name: str, value: str) -> str:
    """Return a header's value as it may be shown: a literal secret is hidden, ``env:NAME`` says nothing."""
    literal = config.is_secret(name, value) and not value.startswith("env:")
    return REDACTED if literal else value


def load_config(run: Run) -> FetchConfig:
    """Return the configuration that a run was created with. Raises UnsealError, ConfigError."""
    options = dict(run.options)
    headers = unseal(bytes(run.secrets)) if run.secrets else tuple(tuple(pair) for pair in options["headers"])
    options["headers"] = headers
    options["secret_headers"] = frozenset(options["secret_headers"])
    options["allowed_networks"] = read_value("allowed_networks", options["allowed_networks"])
    return FetchConfig(**options)


def variant_of(config: FetchConfig) -> Callable[[Headers], bytes]:
    """Return the function from a target's own headers to its variant (16 bytes).

    The variant is an HMAC of all headers that are sent but User-Agent and conditionals, ``env:`` values looked up: what
    one set of credentials got is never confirmed to another.
    """
    key = derived_key("variant")
    ignored = CONDITIONAL_HEADERS | {"user-agent"}
    known: dict[Headers, bytes] = {}

    def variant(own: Headers) -> bytes:
        if own not in known:
            headers = effective_headers(config.headers, own)
            pairs = sorted((name.lower(), resolve_header(name, value)) for name, value in headers)
            text = "\n".join(f"{name}: {value}" for name, value in pairs if name not in ignored)
            if len(known) > 1000:
                known.clear()
            known[own] = hmac.digest(key, text.encode(), sha256)[:16]
        return known[own]

    return variant


def start(run: int) -> None:
    """Note that fetching has begun."""
    Run.objects.filter(pk=run, state__in=[RunState.PENDING, RunState.INTERRUPTED]).update(
        state=RunState.RUNNING, started_at=timezone.now(), finished_at=None
    )


def planned(run: int) -> None:
    """Note that the whole source was read."""
    Run.objects.filter(pk=run).update(planned_at=timezone.now())


def finish(run: int, *, failed: bool = False) -> RunState:
    """End this process's part of a run and return the state that it is in now.

    It is completed when its source was read to the end and every target has a result, failed when the caller says that
    it cannot go on, and interrupted otherwise. Stored secrets are wiped once the run is over.
    """
    with transaction.atomic():
        row = Run.objects.select_for_update().get(pk=run)
        state = RunState.FAILED if failed else RunState.INTERRUPTED
        if not failed and row.planned_at is not None and pending(run) == 0:
            state = RunState.COMPLETED
        row.state = state
        row.finished_at = timezone.now()
        if state in _OVER:
            row.secrets = None
        row.save(update_fields=["state", "finished_at", "secrets"])
    return state


def pending(run: int) -> int:
    """Count a run's targets without a result, from its lanes' counters."""
    recorded = F("succeeded") + F("not_modified") + F("failed") + F("skipped")
    return Lane.objects.filter(run=run).aggregate(pending=Sum(F("planned") - recorded))["pending"] or 0
