"""All settings, from the environment. ``dev``, ``test`` and ``production`` differ in a few lines each."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
IS_CLUSTER = sys.argv[1:2] == ["qcluster"]


class Hidden(str):
    """A setting's secret text. Debug pages, logs and tracebacks that show values show its ``repr``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'********'"


def database(url: str) -> dict[str, Any]:
    """Return Django's settings for a DATABASE_URL. Raises ImproperlyConfigured for one that cannot be read."""
    _refuse_cut_url(url)
    try:
        config: dict[str, Any] = dict(dj_database_url.parse(url))
        if config.get("ENGINE") not in ("django.db.backends.sqlite3", "django.db.backends.postgresql"):
            raise ValueError
    except (dj_database_url.ParseError, dj_database_url.UnknownSchemeError, ValueError):
        # The URL may hold a password: its value is not repeated.
        raise ImproperlyConfigured(
            "DATABASE_URL cannot be read; write sqlite:///db.sqlite3 or postgres://user:password@host:5432/name"
        ) from None
    if config["ENGINE"] == "django.db.backends.sqlite3":
        if config["NAME"] != ":memory:":
            config["NAME"] = str(BASE_DIR / config["NAME"])
        config["OPTIONS"] = {
            # Readers never block the writer, writers queue up instead of failing, and a crash of the process loses
            # nothing that was committed (a power cut may lose the last commits: synchronous=NORMAL).
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-8000;",
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        }
    else:
        # A server's machine that says nothing any more is given up after half a minute, not after a quarter of an hour.
        config["OPTIONS"] = {
            "connect_timeout": 10,
            "tcp_user_timeout": 30_000,
            "keepalives_idle": 30,
            **config.get("OPTIONS", {}),
        }
    config["PASSWORD"] = Hidden(config.get("PASSWORD") or "")
    # A web process under ASGI leaks connections that are kept; for the cluster opening one each time is the slow part.
    config["CONN_MAX_AGE"] = None if IS_CLUSTER else 0
    return config


def _refuse_cut_url(url: str) -> None:
    """Refuse a DATABASE_URL that a character ends too early. Raises ImproperlyConfigured, which repeats no value."""
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        if "#" in rest or "?" in rest:
            raise ImproperlyConfigured(
                "DATABASE_URL has a # or ? in the path of the SQLite file, where the path would end: write %23 for #, "
                "%3F for ?"
            )
        return
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    path = rest[len(authority) :].partition("=")[0]  # after that an option's value may have any
    if "#" in rest or ("@" in path and "@" not in authority):
        raise ImproperlyConfigured(
            "DATABASE_URL has a #, / or ? in the user name or password, where the address would end: write %23 for #, "
            "%2F for /, %3F for ?"
        )


def whole_number(name: str, default: int) -> int:
    """Return a number from the environment. Raises ImproperlyConfigured for one that cannot be read."""
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not int(text):
        raise ImproperlyConfigured(f"{name} must be a whole number from 1 on, not {text!r}")
    return int(text)


SECRET_KEY = os.environ.get("SECRET_KEY", "")
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "").replace(",", " ").split()
DATABASES = {"default": database(os.environ.get("DATABASE_URL") or "sqlite:///db.sqlite3")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_q",
    "fetcher",
    "jobs",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
ROOT_URLCONF = "settings.urls"
ASGI_APPLICATION = "settings.asgi.application"
WSGI_APPLICATION = "settings.wsgi.application"

# A debug page, which DEBUG has, and an error mail show settings and variables.
DEFAULT_EXCEPTION_REPORTER = "fetcher.reporting.LocalReporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "fetcher.reporting.SecretsFilter"

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "static"
MEDIA_ROOT = Path(os.environ.get("MEDIA_ROOT") or BASE_DIR / "media")

# The cluster: Redis carries its messages where there is one, otherwise the database does.
Q_CLUSTER = {
    "name": "trawl",
    "label": "Queue",
    # What is queued is told of by the commands themselves.
    "log_level": "INFO" if IS_CLUSTER else "WARNING",
    "workers": whole_number("CLUSTER_WORKERS", os.cpu_count() or 2),
    # A task is half a minute of work and the requests that are in flight then. After timeout the queue takes it for
    # hung, and after retry for lost.
    "timeout": 600,
    "retry": 660,
    # What fails is saved and not tried again by the queue: the sweep looks after every run.
    "ack_failures": True,
    "max_attempts": 1,
    "save_limit": -1,
    # Messages that wait belong to whoever has time, not to the machine that took them first.
    "queue_limit": 1,
    # django-q2's own brokers; these also let `cluster status` see which clusters there are.
    **(
        {"redis": Hidden(os.environ["REDIS_URL"]), "broker_class": "jobs.brokers.RedisBroker"}
        if os.environ.get("REDIS_URL")
        else {"orm": "default", "broker_class": "jobs.brokers.OrmBroker"}
    ),
}
FETCHER_DISPATCHER = "jobs.cluster.QCluster"

# Each default of the fetcher can be set by its name: FETCHER_CONCURRENCY=50. fetcher.conf reads and checks them.
for _name, _value in os.environ.items():
    if _name.startswith("FETCHER_"):
        globals()[_name] = Hidden(_value) if _name in ("FETCHER_HEADERS", "FETCHER_PROXY") else _value
