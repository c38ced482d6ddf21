"""Stored bodies, read back."""

from __future__ import annotations

import sys
import zlib

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from hypothesis import given
from hypothesis import strategies as st

from fetcher.bodies import CHUNK, BodyUnavailable, open_body, read_body
from fetcher.models import Body

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


COMPRESS = {"": bytes, "zlib": zlib.compress, "zstd": zstd.compress}
ENCODINGS = pytest.mark.parametrize("encoding", COMPRESS)


def in_row(content: bytes, encoding: str = "") -> Body:
    return Body(size=len(content), content=COMPRESS[encoding](content), encoding=encoding)


def in_file(content: bytes, encoding: str = "") -> Body:
    return Body(size=9, file=default_storage.save("bodies/test", ContentFile(content)), encoding=encoding)


@given(st.binary(max_size=500), st.sampled_from(list(COMPRESS)), st.sampled_from([1, 700]))
def test_gives_back_what_was_stored(content, encoding, times):
    assert read_body(in_row(content * times, encoding)) == content * times


@ENCODINGS
def test_reads_from_the_file_storage(encoding):
    content = b"abc" * CHUNK
    assert read_body(in_file(COMPRESS[encoding](content), encoding)) == content


@ENCODINGS
def test_gives_no_chunk_that_is_larger_than_promised(encoding):
    sizes = [len(chunk) for chunk in open_body(in_row(b"\x00" * (20 * CHUNK + 5), encoding))]
    assert sum(sizes) == 20 * CHUNK + 5
    assert max(sizes) <= CHUNK


def test_an_empty_body_is_empty():
    assert read_body(in_row(b"")) == b""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (Body(pk=3, size=5), "the content of body 3 was not kept"),
        (Body(pk=3, size=5, file="bodies/gone"), "the file 'bodies/gone' of body 3 cannot be read"),
        (Body(pk=3, size=5, content=b"no", encoding="zlib"), "body 3 is damaged"),
        (Body(pk=3, size=5, content=zlib.compress(b"x" * 99)[:-6], encoding="zlib"), "body 3 is damaged"),
        (Body(pk=3, size=5, content=b"no", encoding="zstd"), "body 3 is damaged"),
        (Body(pk=3, size=5, content=zstd.compress(b"x" * 99)[:-3], encoding="zstd"), "body 3 is damaged"),
        (Body(pk=3, size=5, content=b"", encoding="zstd"), "body 3 is damaged"),
        (Body(pk=3, size=5, content=b"", encoding="lzma"), "body 3 is stored in the unknown encoding 'lzma'"),
    ],
)
def test_says_why_a_body_cannot_be_had(body, reason):
    with pytest.raises(BodyUnavailable) as raised:
        read_body(body)
    assert str(raised.value).startswith(reason)
