"""Compression of what is stored."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.packing import MAGIC, Damaged, pack, pack_chunks, unpack, unpack_chunks


@given(st.binary(max_size=300).map(lambda part: part * 10))
def test_what_is_packed_comes_back(data):
    packed = pack(data)
    if packed is None:
        return
    assert packed.startswith(MAGIC)
    assert len(packed) < len(data)
    assert unpack(packed) == data


@pytest.mark.parametrize("data", [b"", b"x", os.urandom(5000)])
def test_what_would_be_no_smaller_is_not_packed(data):
    assert pack(data) is None


def test_threads_pack_side_by_side():
    data = [(b"%d " % number) * 50_000 for number in range(20)]
    with ThreadPoolExecutor(4) as pool:
        assert list(map(unpack, pool.map(pack, data))) == data


@given(st.lists(st.binary(max_size=300).map(lambda part: part * 10), max_size=20))
def test_what_is_packed_bit_by_bit_comes_back(chunks):
    packed = b"".join(pack_chunks(chunks))
    assert packed.startswith(MAGIC)
    assert unpack(packed) == b"".join(unpack_chunks(iter([packed]), 1000)) == b"".join(chunks)


@given(st.integers(1, 50))
def test_is_read_bit_by_bit_in_chunks_that_are_no_larger_than_asked(step):
    packed = pack(b"abc" * 10_000)
    chunks = list(unpack_chunks((packed[start : start + step] for start in range(0, len(packed), step)), 1000))
    assert b"".join(chunks) == b"abc" * 10_000
    assert max(map(len, chunks)) <= 1000


@pytest.mark.parametrize("damaged", [b"", b"no", pack(b"abc" * 1000)[:-2], b"x" + pack(b"abc" * 1000)])
def test_what_is_damaged_says_so(damaged):
    with pytest.raises(Damaged):
        list(unpack_chunks(iter([damaged]), 1000))
