"""For a person's own machine: nothing has to be set, and only this machine is served."""

import os

from settings.base import *  # noqa: F403
from settings.base import BASE_DIR
from settings.secret_key import kept_secret_key

DEBUG = True
SECRET_KEY = os.environ.get("SECRET_KEY") or kept_secret_key(BASE_DIR / ".secret_key")
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
FETCHER_API_ACCESS = os.environ.get("FETCHER_API_ACCESS", "loopback")
