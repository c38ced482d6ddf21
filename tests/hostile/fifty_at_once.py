"""Every hostile reply fifty times at once, on both transports. It takes minutes: only ``make hostile`` runs it."""

from __future__ import annotations

import pytest

from tests.hostile import REPLIES
from tests.hostile.fetching import check
from tests.hostile.peer import Peer
from tests.hostile.reply import TIMEOUT, Reply

AT_ONCE = 50
MEMORY_BYTES = 256 * 2**20


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: reply.name)
async def test_reply_stays_within_bounds_fifty_times_at_once(reply: Reply, transport: str, peer: Peer) -> None:
    urls = [f"{peer.url(reply)}?{number}" for number in range(AT_ONCE)]
    # Fifty bombs share one deadline, so some may run out of time before they show what they are.
    verdicts = reply.expected(transport) | {TIMEOUT}
    await check(reply, transport, urls, verdicts=verdicts, memory=MEMORY_BYTES)
