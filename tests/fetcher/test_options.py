"""What can be asked of a run beside how it is fetched."""

from __future__ import annotations

import pytest

from fetcher.engine.config import ConfigError
from fetcher.options import MAX_DATA, RunOptions


@pytest.mark.parametrize(
    ("values", "name", "text"),
    [
        ({"data": b"x" * (MAX_DATA + 1)}, "data", "is longer than 65536 bytes"),
        ({"data": b"", "method": "HEAD"}, "data", "a HEAD request has no body"),
        ({"extract": "a["}, "extract", "is not a JMESPath expression"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(values, name, text):
    with pytest.raises(ConfigError, match=text) as raised:
        RunOptions(**values)
    assert raised.value.name == name


def test_the_largest_body_is_taken():
    assert len(RunOptions(data=b"x" * MAX_DATA).data) == MAX_DATA
