"""The development settings for the clusters on trial: known by a name, and with shorter waits where that is asked."""

from settings.dev import *  # noqa: F403
from settings.dev import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.cluster.changes.Changes"]
