"""Replies and behaviours of hostile servers: every one has a typed verdict, in bounded time, memory and loop time."""

from tests.hostile.bodies import CHUNKS, CODINGS
from tests.hostile.heads import HEADS, LENGTHS, REDIRECTED, STATUS
from tests.hostile.timings import TIMINGS

REPLIES = (*STATUS, *HEADS, *LENGTHS, *REDIRECTED, *CHUNKS, *CODINGS, *TIMINGS)
