"""The Django app."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    """Keeps lists of targets that are fetched again and again."""

    name = "jobs"
    default_auto_field = "django.db.models.BigAutoField"
