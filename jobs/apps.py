"""The Django app."""

from typing import Any

from django.apps import AppConfig, apps
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models.signals import post_migrate


class JobsConfig(AppConfig):
    """Keeps lists of targets that are fetched again and again."""

    name = "jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, and have the queue's sweep set up with the tables, and kept by the cluster."""
        from jobs import checks  # noqa: F401  (importing registers them)

        if not apps.is_installed("django_q"):  # jobs.E001 says so
            return
        from django_q.signals import post_spawn

        post_migrate.connect(_migrated, sender=self)
        post_spawn.connect(_spawned)


def _migrated(using: str = DEFAULT_DB_ALIAS, **kwargs: Any) -> None:
    from django_q.models import Schedule

    from jobs.timers import ensure_sweep

    # With "migrate jobs" alone, or in an order of apps of its own, django-q2's table may come later.
    table = Schedule._meta.db_table
    if using == DEFAULT_DB_ALIAS and table in connections[using].introspection.table_names():
        ensure_sweep()


def _spawned(**kwargs: Any) -> None:
    from jobs.watching import watch

    watch()
