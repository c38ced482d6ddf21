"""API addresses without their last slash, asked for by methods that a redirect does not carry safely."""

from __future__ import annotations

import pytest

from fetcher.models import Run
from tests.fetcher.api.conftest import Caller


@pytest.mark.parametrize("path", ["/api/v1/runs", "/api/v1/latest", "/api/v1/runs/1/results"])
def test_post_without_the_last_slash_names_the_right_address(api: Caller, path: str) -> None:
    answer = api.post(path, {"urls": ["http://127.0.0.1/"]})
    assert (answer.status, "Location" in answer.headers) == (404, False)
    assert answer.detail.endswith(f"its address ends with a slash: {path}/")
    assert not Run.objects.exists()


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_unknown_address_is_a_404_for_every_method(api: Caller, method: str) -> None:
    answer = api.get("/api/v1/nothing/", method=method)
    assert answer.status == 404
    assert "There is nothing at /api/v1/nothing/" in answer.detail


def test_refusal_of_a_foreign_address_comes_before_the_slash(api: Caller) -> None:
    assert api.post("/api/v1/runs", peer="192.0.2.1").status == 403
