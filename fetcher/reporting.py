"""Debug pages and error mails without secrets: Django's own hide a setting only if its name looks like a secret's.

Use both classes in the settings::

    DEFAULT_EXCEPTION_REPORTER = "fetcher.reporting.LocalReporter"
    DEFAULT_EXCEPTION_REPORTER_FILTER = "fetcher.reporting.SecretsFilter"

Django loads this module while it sets up logging, before any app: it must not import a model.
"""

from __future__ import annotations

import os
import re
from collections.abc import ItemsView
from types import FrameType
from typing import Any

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from fetcher.engine.config import ConfigError
from fetcher.loopback import refusal

_SECRET_NAME = re.compile(
    r"^FETCHER_|API|AUTH|TOKEN|KEY|SECRET|PASS|PWD|SIGNATURE|COOKIE|SESSION|CREDENTIAL|HEADER|PROXY|URL(?!CONF)|URI|DSN|REDIS",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"[a-z][a-z0-9+.-]*://[^/\s?#]*@"  # a URL with a password
    r"|\bpass(?:word|wd)?\s*[=:]"
    r"|^\s*(?:basic|bearer|digest|negotiate)\s+\S",
    re.IGNORECASE,
)
_PLAIN = '<!doctype html>\n<html lang="en">\n<head><title>{0}</title></head>\n<body><h1>{0}</h1></body>\n</html>\n'


class SecretsFilter(SafeExceptionReporterFilter):
    """Hides settings, headers, variables and whole values of the environment that are, or may hold, a secret.

    What counts is the name, as Django has it, and the text itself: a URL with a password is hidden under any name.
    """

    hidden_settings = _SECRET_NAME

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        """Return a value as a page may show it; dictionaries, lists and tuples are looked into."""
        cleansed = super().cleanse_setting(key, value)
        if isinstance(cleansed, str | bytes):
            text = cleansed if isinstance(cleansed, str) else cleansed.decode("latin-1")
            # A development server under WSGI mixes the process's environment into the request.
            if _SECRET_TEXT.search(text) or (isinstance(key, str) and os.environ.get(key) == text):
                return self.cleansed_substitute
        return cleansed

    def get_safe_cookies(self, request: HttpRequest) -> dict[str, Any]:
        """Return the cookies by name, without a value: most are credentials."""
        return dict.fromkeys(getattr(request, "COOKIES", ()), self.cleansed_substitute)

    def is_active(self, request: HttpRequest | None) -> bool:
        """Whether ``sensitive_variables`` and its kin count: always, also where DEBUG is on."""
        return True

    def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: FrameType) -> ItemsView[str, Any]:
        """Return a frame's variables, cleansed like settings."""
        found = super().get_traceback_frame_variables(request, tb_frame)
        return {name: self.cleanse_setting(name, value) for name, value in found}.items()


class LocalReporter(ExceptionReporter):
    """Shows a debug page to this machine only, under its own names; others get a plain page. Mails are as always."""

    def get_traceback_html(self) -> SafeString:
        """Return the debug page, or the plain one."""
        return super().get_traceback_html() if self._is_for_us() else format_html(_PLAIN, self._title())

    def get_traceback_text(self) -> SafeString:
        """Return the same as text."""
        return super().get_traceback_text() if self._is_for_us() else format_html("{}\n", self._title())

    def _is_for_us(self) -> bool:
        try:
            return self.is_email or self.request is None or refusal(self.request) is None
        except ConfigError:  # who may see a page is not known
            return False

    def _title(self) -> str:
        asked_wrongly = self.exc_type is not None and issubclass(self.exc_type, SuspiciousOperation | BadRequest)
        return "Bad Request (400)" if asked_wrongly else "Server Error (500)"
