"""Another database in this process, as another ``DATABASE_URL`` gives a command one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

from django.contrib.contenttypes.models import ContentType
from django.db import connections

from settings.base import database


@contextlib.contextmanager
def using_database(url: str) -> Iterator[None]:
    """Have Django use the database of this URL until the block ends."""
    usual = connections["default"]
    configured = connections.configure_settings({"default": database(url)})["default"]
    with mock.patch.dict(connections.settings, {"default": configured}):
        del connections["default"]
        try:
            yield
        finally:
            connections["default"].close()
            connections["default"] = usual
            ContentType.objects.clear_cache()  # it holds numbers of the other database
