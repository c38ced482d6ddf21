"""The development settings with a URL that fails, for a server of its own."""

from settings.dev import *  # noqa: F403

ROOT_URLCONF = "tests.fetcher.debug_urls"
