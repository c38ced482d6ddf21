"""The hostile server, and both transports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.fetching import TRANSPORTS
from tests.hostile.peer import Peer, running_peer


@pytest.fixture(scope="session")
def peer() -> Iterator[Peer]:
    with running_peer() as running:
        yield running


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)
