"""All settings, from the environment. ``dev``, ``test`` and ``production`` differ in a few lines each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent


def database(url: str) -> dict[str, Any]:
    """Return Django's settings for a DATABASE_URL. Raises ImproperlyConfigured for one that cannot be read."""
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
    return config


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

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "static"
MEDIA_ROOT = Path(os.environ.get("MEDIA_ROOT") or BASE_DIR / "media")

# Each default of the fetcher can be set by its name: FETCHER_CONCURRENCY=50. fetcher.conf reads and checks them.
globals().update({name: value for name, value in os.environ.items() if name.startswith("FETCHER_")})
