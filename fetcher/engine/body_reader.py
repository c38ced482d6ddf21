"""Reads the body of an answer within bounds of size, memory and time.

What is decoded is decoded once it is there as a whole. So no sender can make Trawl hold a decoder, with a window of up
to 16 MiB, for as long as it likes: there are never more of them at work than threads. The event loop decodes what takes
a moment; the rest of it goes to a thread, where it can be given up between two steps.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import httpx

from fetcher.engine.bodies import PIECE, SpilledBody, Spilling
from fetcher.engine.codings import decoding_failed
from fetcher.engine.decoding import decode, packed_limit, refuse_declared_length, too_large
from fetcher.engine.errors import FetchError
from fetcher.engine.transport.messages import WholeBody

_THREADS = 2
"""Bodies decoded at once in the whole process: it bounds the memory, for each may need three windows."""
_INLINE_SECONDS = 0.001
"""Processor time for which the event loop decodes one body before a thread takes over: some 300 KB.

A thread costs 0.1 ms itself.
"""
_UNTIMED_STEPS = 2
"""Steps that are taken whatever they cost (a small body has no more): the time may be a garbage collection's."""
_TURN_SECONDS = 0.015
"""Processor time for which the event loop decodes in one turn, all bodies together: many may arrive at once."""
_FREE_SECONDS = 0.25
_SLOWEST_BYTES_PER_SECOND = 10 * 2**20
"""Processor time that a body may take in a thread, and how many decoded bytes each further second must yield.

Slow hardware yields several times as many. A body of code tables yields none: 20 KB of it would take 6 s.
"""
_SMALL_BYTES = 4 * 2**10
_BURST_CHUNKS = 64
"""Chunks that are taken one after the other before the event loop has a turn."""


class BodyReader:
    """Reads bodies of at most ``limit`` bytes, decoded. Larger ones than ``spilling.threshold`` end up in files.

    Belongs to one event loop.
    """

    def __init__(self, limit: int, spilling: Spilling | None) -> None:
        self._limit = limit
        self._spilling = spilling or Spilling(packed_limit(limit))  # which nothing is larger than
        self._decoded_here = 0.0
        self._renewing = False

    async def read(self, stream: httpx.AsyncByteStream, declared: str) -> bytes | SpilledBody:
        """Return a body that has no coding. ``declared`` is its Content-Length, or empty.

        Raises TooLarge, SpillFailed, and what the stream raises.
        """
        refuse_declared_length(declared, self._limit)
        return await self._received(stream, self._limit)

    async def read_decoded(self, stream: httpx.AsyncByteStream, codings: Sequence[str]) -> bytes | SpilledBody:
        """Return a body under codings, decoded; see ``decode`` for these.

        Raises TooLarge, DecodingFailed, SpillFailed, and what the stream raises.
        """
        packed: bytes | SpilledBody
        if isinstance(stream, WholeBody) and stream.failure is None:
            packed = stream.data
        else:
            packed = await self._received(stream, packed_limit(self._limit))
        if not packed:
            return packed
        if isinstance(packed, SpilledBody):
            return await self._decode_in_thread(decode(packed.chunks(), codings, self._limit), _Gathered(), packed)
        steps, gathered = decode((packed,), codings, self._limit), _Gathered()
        if _has_short_steps(packed, codings) and self._decode_here(steps, gathered):
            return gathered.join()
        return await self._decode_in_thread(steps, gathered, None)

    async def _received(self, stream: httpx.AsyncByteStream, most: int) -> bytes | SpilledBody:
        """Read as on the wire: ``Response.aiter_raw`` costs more and gives the same."""
        gathered, spilled = _Gathered(), None
        room = self._spilling.threshold
        chunks = 0
        try:
            async for chunk in stream:
                gathered.add(chunk)
                if gathered.size > most:
                    raise too_large(self._limit)
                if gathered.size > room:
                    spilled = await self._spilling.add(spilled, gathered.pieces)
                    room = gathered.size + PIECE
                chunks += 1
                if chunks % _BURST_CHUNKS == 0:
                    await asyncio.sleep(0)
            if spilled is not None:
                return await self._spilling.add(spilled, gathered.pieces)
        except BaseException:
            self._spilling.discard(spilled)
            raise
        return gathered.join()

    def _decode_here(self, steps: Iterator[bytes], gathered: _Gathered) -> bool:
        """Take steps for a moment. Returns whether the body is complete."""
        if self._decoded_here > _TURN_SECONDS:
            return False
        began = time.thread_time()
        try:
            for count, piece in enumerate(steps, 1):
                gathered.add(piece)
                if gathered.size > self._spilling.threshold:
                    return False
                if count > _UNTIMED_STEPS and time.thread_time() - began > _INLINE_SECONDS:
                    return False
        finally:
            self._decoded_here += time.thread_time() - began
            if self._decoded_here > _INLINE_SECONDS and not self._renewing:
                self._renewing = True
                asyncio.get_running_loop().call_soon(self._renew)
        return True

    def _renew(self) -> None:
        self._decoded_here = 0.0
        self._renewing = False

    async def _decode_in_thread(
        self, steps: Iterator[bytes], gathered: _Gathered, packed: SpilledBody | None
    ) -> bytes | SpilledBody:
        """Take the rest of the steps in a thread, into a file where there are more bytes than the threshold.

        Cancelled, it does not wait for the thread, which ends after the step that it is at.
        """
        body = self._spilling.begin()
        work = _Work(steps, gathered, body, self._spilling.threshold)
        body.writing = future = _threads(os.getpid()).submit(work.run)
        try:
            whole = await asyncio.wrap_future(future)
        except BaseException:
            work.stopped = True
            if future.cancel():  # while it was in line: then nothing writes
                body.writing = None
            future.add_done_callback(lambda _: self._discard(body, packed))
            raise
        self._discard(packed)
        if whole is None:
            return body
        body.close()  # which has no file
        return whole

    def _discard(self, *bodies: SpilledBody | None) -> None:
        for body in bodies:
            self._spilling.discard(body)


def _has_short_steps(packed: bytes, codings: Sequence[str]) -> bool:
    """Whether each step is short enough for the event loop.

    Brotli fills its window in one step, which takes 2 ms for 1 MiB. RFC 7932, section 9.1: these bits of the first byte
    declare windows over 4 MiB (WBITS 23 and 24). Inside another coding they cannot be seen.
    """
    return len(codings) == 1 and (codings[0] != "br" or packed[0] & 0b1111 not in (0b1101, 0b1111))


class _Gathered:
    """Pieces of a body; small ones are joined, for each object takes some 60 bytes, however little is in it."""

    __slots__ = ("pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[bytes | bytearray] = []
        self.size = 0
        """Bytes added, also those that were taken out of ``pieces``."""

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if len(piece) >= _SMALL_BYTES:
            self.pieces.append(piece)
        elif self.pieces and isinstance(last := self.pieces[-1], bytearray) and len(last) < PIECE:
            last += piece
        elif piece:
            self.pieces.append(bytearray(piece))

    def join(self) -> bytes:
        return bytes(self.pieces[0]) if len(self.pieces) == 1 else b"".join(self.pieces)


class _Work:
    """The decoding of one body in a thread."""

    def __init__(self, steps: Iterator[bytes], gathered: _Gathered, body: SpilledBody, threshold: int) -> None:
        self.stopped = False
        self._steps = steps
        self._gathered = gathered
        self._body = body
        self._room = threshold

    def run(self) -> bytes | None:
        """Return the decoded body, None if it is in the file or if the work was stopped."""
        try:
            return self._run()
        except FetchError as exc:
            # What led to it holds the decoders and their windows, and the error may live as long as a garbage cycle.
            exc.__cause__ = exc.__context__ = None
            error = exc.with_traceback(None)
        finally:
            self._gathered.pieces.clear()
        try:
            raise error
        finally:
            del error

    def _run(self) -> bytes | None:
        began = time.thread_time()
        self._write()
        for piece in self._steps:
            if self.stopped:
                return None
            self._gathered.add(piece)
            self._write()
            spent = time.thread_time() - began
            if spent > _FREE_SECONDS + self._gathered.size / _SLOWEST_BYTES_PER_SECOND:
                text = f"the body takes too long to decode: {spent:.1f} s for {self._gathered.size} bytes so far"
                raise decoding_failed(text)
        if not len(self._body):
            return self._gathered.join()
        self._body.write(self._gathered.pieces)
        return None

    def _write(self) -> None:
        if self._gathered.size > self._room:
            self._body.write(self._gathered.pieces)
            self._gathered.pieces.clear()
            self._room = self._gathered.size + PIECE


@lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    """Return the threads of a process: a forked one has none of its parent's."""
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="trawl-decode")
