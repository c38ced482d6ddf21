"""For a person's own machine: nothing has to be set, and only this machine is served."""

import os

from settings.base import *  # noqa: F403

DEBUG = True
SECRET_KEY = os.environ.get("SECRET_KEY") or "for development only: whoever reads this can forge a session"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
FETCHER_API_ACCESS = os.environ.get("FETCHER_API_ACCESS", "loopback")
