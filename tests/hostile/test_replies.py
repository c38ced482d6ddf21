"""Every hostile reply by itself, on both transports."""

from __future__ import annotations

import pytest

from tests.hostile import REPLIES
from tests.hostile.fetching import check
from tests.hostile.peer import Peer
from tests.hostile.reply import Reply

MEMORY_BYTES = 64 * 2**20


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: reply.name)
async def test_reply_has_its_verdict_within_bounds(reply: Reply, transport: str, peer: Peer) -> None:
    await check(reply, transport, [peer.url(reply)], verdicts=reply.expected(transport), memory=MEMORY_BYTES)
