"""The Django app."""

from django.apps import AppConfig


class FetcherConfig(AppConfig):
    """Fetches lists of URLs and serves what was saved."""

    name = "fetcher"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from fetcher import checks  # noqa: F401  (importing registers them)
