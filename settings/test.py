"""For the test suite: like development, with fast password hashing and no debugging aids."""

import os
import tempfile
from pathlib import Path

from settings.base import *  # noqa: F403
from settings.base import DATABASES

DEBUG = False
SECRET_KEY = "for tests only"  # noqa: S105  (protects nothing)
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", "testserver"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
FETCHER_API_ACCESS = os.environ.get("FETCHER_API_ACCESS", "loopback")
SILENCED_SYSTEM_CHECKS = ["fetcher.W004"]  # no proxy is near
FETCHER_LOOPBACK_HOSTS = "testserver"  # as Django's test client calls it
MEDIA_ROOT = Path(os.environ.get("MEDIA_ROOT") or tempfile.mkdtemp(prefix="trawl-test-media-"))
# A file, because views read from threads of their own, and connections to one in memory lock each other out.
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["TEST"] = {"NAME": str(Path(tempfile.mkdtemp(prefix="trawl-test-db-")) / "test.sqlite3")}
elif name := os.environ.get("TEST_DATABASE_NAME"):  # for several test runs on one server
    DATABASES["default"]["TEST"] = {"NAME": name}
