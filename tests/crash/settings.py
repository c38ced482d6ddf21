"""The development settings, with the points at which a process is to be killed."""

from settings.dev import *  # noqa: F403
from settings.dev import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.crash.points.Points"]
