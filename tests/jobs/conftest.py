"""What tests of jobs share."""

from __future__ import annotations

from tests.fetcher.api.conftest import api

__all__ = ["api"]
