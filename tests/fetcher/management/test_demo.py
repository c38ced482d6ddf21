"""``manage.py demo``."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from fetcher.demo.scenarios import AGAIN, FIRST
from fetcher.models import Result, Run


@pytest.mark.django_db(transaction=True)
class TestDemo:
    def test_fetches_everything_twice_as_scripted(self):
        out = io.StringIO()
        call_command("demo", progress="none", stdout=out)
        first, second = Run.objects.order_by("id")
        assert Result.objects.filter(run=first).count() == len(FIRST)
        assert Result.objects.filter(run=second, status="not_modified").count() == len(AGAIN)
        assert "Every outcome is as scripted" in out.getvalue()
        assert not [line for line in out.getvalue().splitlines() if line != line.rstrip()]

    @override_settings(FETCHER_HEADERS="Accept-Encoding: identity\nIf-None-Match: *")
    def test_says_what_is_not_as_scripted(self):
        # With a condition of the operator's own the second pass is not the demo's.
        with pytest.raises(CommandError, match=r"not as scripted:\n  /etag/1: status should be 'not_modified'"):
            call_command("demo", progress="none", stdout=io.StringIO())
