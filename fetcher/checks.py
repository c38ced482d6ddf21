"""Mistakes in the settings, found by ``manage.py check`` and before every command.

What cannot work is an error and is looked for always. What works but is slower or less safe than it could be is a
warning of ``manage.py check --deploy`` only: a person who tries Trawl out is not to be told it at every command.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning, register  # noqa: A004  (Django's name)
from django.db import connections

from fetcher import conf
from fetcher.engine.config import ConfigError
from fetcher.engine.transport.choice import check_files, choose_transport
from fetcher.secrets import PUBLISHED_KEY
from fetcher.texts import did_you_mean

BUSY_TIMEOUT = 20
"""Seconds; a writer on SQLite may have to wait for another's batch, and for a checkpoint."""
_FIXED_SQLITE = (3, 51, 3)
_BACKPORTS: dict[tuple[int, ...], tuple[int, ...]] = {(3, 44): (3, 44, 6), (3, 50): (3, 50, 7)}
_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]", "::1", ".localhost"})


@register("fetcher")
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """E001: a ``FETCHER_`` setting has a value that cannot be used."""
    found: list[CheckMessage] = []
    for read in (conf.fetch_config, conf.fetcher_settings, conf.connection_options, conf.ceilings):
        try:
            read()
        except ConfigError as exc:
            found.append(
                Error(str(exc), hint="Change it in the settings or in the environment.", id="fetcher.E001"),
            )
    return found


@register("fetcher")
def check_names(**kwargs: Any) -> list[CheckMessage]:
    """W013: a setting or an environment variable that begins with FETCHER_ has no effect: it is misspelt, or old."""
    known = conf.setting_names()
    given = {name for name in (*dir(settings), *os.environ) if name.startswith("FETCHER_")}
    return [
        Warning(
            f"{name} is not a setting of Trawl and has no effect{did_you_mean(name, known, 'FETCHER_')}",
            hint="Correct the name in the settings or in the environment, or remove it.",
            id="fetcher.W013",
        )
        for name in sorted(given - known)
    ]


@register("fetcher")
def check_transport(**kwargs: Any) -> list[CheckMessage]:
    """E003, W007, I001: what requests go through, and why."""
    try:
        options = conf.connection_options()
    except ConfigError:
        return []  # E001 says it
    try:
        chosen = choose_transport(options)
        check_files(options)
    except ConfigError as exc:
        return [
            Error(
                f"FETCHER_{exc.name.upper()} {exc}",
                hint="Change it in the settings or in the environment.",
                id="fetcher.E003",
            )
        ]
    if chosen.is_fallback:
        slow = f"requests go through {chosen.shown}, several times slower than libcurl"
        return [Warning(slow, hint=f"{chosen.reason}.", id="fetcher.W007")]
    if sys.argv[1:2] != ["check"]:  # before other commands it would be noise
        return []
    return [Info(f"requests go through {chosen.shown}", hint=f"{chosen.reason}.", id="fetcher.I001")]


@register("fetcher")
def check_storage(**kwargs: Any) -> list[CheckMessage]:
    """E002: large bodies have no file storage to go to."""
    alias = _body_storage()
    if alias is None or alias in settings.STORAGES:
        return []
    return [
        Error(
            f"FETCHER_BODY_STORAGE is {alias!r}, which STORAGES does not have",
            hint=f"Add it to STORAGES, or choose one of: {', '.join(sorted(settings.STORAGES))}.",
            id="fetcher.E002",
        )
    ]


@register("fetcher")
def check_secret_key(**kwargs: Any) -> list[CheckMessage]:
    """E008: secrets are sealed under a key that everybody can read."""
    if settings.SECRET_KEY != PUBLISHED_KEY:
        return []
    return [
        Error(
            "SECRET_KEY is the one that earlier versions of Trawl published: it protects no secret and no session",
            hint="Set another one, made with: openssl rand -base64 48. Under settings.dev leave it unset: a key is "
            "made at the first start. Then give the literal secrets of saved jobs again.",
            id="fetcher.E008",
        )
    ]


@register("fetcher")
def check_spilling(**kwargs: Any) -> list[CheckMessage]:
    """E004: the folder for large bodies that arrive is none, or nothing can be written there."""
    try:
        folder = conf.fetcher_settings().spill_folder
    except ConfigError:
        return []  # E001 says it
    if not folder or (Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        return []
    return [
        Error(
            f"FETCHER_SPILL_FOLDER is {folder!r}, which is no folder that this user can write to",
            hint="Make it, give this user the right to write there, or name another one.",
            id="fetcher.E004",
        )
    ]


@register("fetcher")
def check_access(**kwargs: Any) -> list[CheckMessage]:
    """W004: access without a login, by address alone, on what is set up like a server."""
    try:
        access = conf.fetcher_settings().api_access
    except ConfigError:
        return []  # E001 says it
    public = [host for host in settings.ALLOWED_HOSTS if host not in _LOCAL]
    if access != "loopback" or (settings.DEBUG and not public):
        return []
    sign = f"ALLOWED_HOSTS names {public[0]}" if public else "DEBUG is off"
    return [
        Warning(
            f"FETCHER_API_ACCESS is loopback, but {sign}: this looks like a server",
            hint="A reverse proxy on this machine that sets no forwarding header lets anyone in without a login. Set "
            "FETCHER_API_ACCESS=login. If only this machine calls the server, silence this warning "
            '(SILENCED_SYSTEM_CHECKS = ["fetcher.W004"]).',
            id="fetcher.W004",
        )
    ]


@register("fetcher", deploy=True)
def check_header_hosts(**kwargs: Any) -> list[CheckMessage]:
    """W012: secret default headers that the API's runs do not send, or send anywhere."""
    try:
        config = conf.callers_config()
    except ConfigError:
        return []  # E001 says it
    guarded = sorted({name for name, _ in config.headers if name.lower() in config.guarded_headers})
    if not guarded or (config.headers_hosts and "*" not in config.headers_hosts):
        return []
    where = "to every host that a caller names" if config.headers_hosts else "to no host"
    return [
        Warning(
            f"FETCHER_HEADERS has secrets ({', '.join(guarded)}), which fanout/ and POST runs/ send {where}",
            hint="Name the hosts that they are for: FETCHER_HEADERS_HOSTS=api.example.com,*.example.org. The commands "
            "and saved jobs, whose URLs are your own, send them everywhere.",
            id="fetcher.W012",
        )
    ]


@register("fetcher", deploy=True)
def check_database(**kwargs: Any) -> list[CheckMessage]:
    """W001 to W003, W005: the default database loses commits, holds up writers, or leaks connections."""
    connection = connections["default"]
    found: list[CheckMessage] = []
    if connection.vendor == "sqlite":
        found += _sqlite(connection.settings_dict, sqlite3.sqlite_version_info)
    age = connection.settings_dict.get("CONN_MAX_AGE", 0)
    if age != 0 and getattr(settings, "ASGI_APPLICATION", None):
        found.append(
            Warning(
                f"CONN_MAX_AGE is {age}, and under ASGI connections that are kept are never used again",
                hint="Leave CONN_MAX_AGE at 0 where ASGI_APPLICATION is served; on PostgreSQL use a pool "
                '(OPTIONS["pool"]).',
                id="fetcher.W005",
            )
        )
    return found


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Whether a SQLite can lose commits when a checkpoint of its write-ahead log races a write."""
    return version < _BACKPORTS.get(version[:2], _FIXED_SQLITE)


def _sqlite(database: dict[str, Any], version: tuple[int, ...]) -> Iterator[CheckMessage]:
    options = database.get("OPTIONS", {})
    wal = "journal_mode=wal" in str(options.get("init_command", "")).lower().replace(" ", "")
    if wal and has_wal_reset_bug(version):
        yield Warning(
            f"SQLite {'.'.join(map(str, version))} can, rarely, lose commits in WAL mode when a checkpoint and a write "
            "of two processes meet",
            hint="Use a Python with SQLite 3.51.3 or later (or 3.50.7, 3.44.6), use PostgreSQL, or let only one "
            "process at a time use the file.",
            id="fetcher.W001",
        )
    if not wal:
        yield Warning(
            "SQLite does not use a write-ahead log: readers and the writer hold each other up",
            hint='Set OPTIONS["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;".',
            id="fetcher.W002",
        )
    if str(options.get("transaction_mode") or "").upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        yield Warning(
            "transactions on SQLite begin as readers: two processes that both come to write fail at once with "
            "'database is locked'",
            hint='Set OPTIONS["transaction_mode"] = "IMMEDIATE".',
            id="fetcher.W003",
        )
    timeout = options.get("timeout", 5)  # the sqlite3 module's default
    if timeout < BUSY_TIMEOUT:
        yield Warning(
            f"a writer on SQLite gives up after {timeout:g} seconds of waiting for another",
            hint=f'Set OPTIONS["timeout"] = {BUSY_TIMEOUT}.',
            id="fetcher.W006",
        )


def _body_storage() -> str | None:
    try:
        return conf.fetcher_settings().body_storage
    except ConfigError:
        return None  # E001 says it
