"""The cycle collector while a process fetches."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from fetcher.garbage import YOUNG, RareCollections


@pytest.fixture(autouse=True)
def as_python_comes() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


def test_inside_the_collector_looks_seldom_and_not_at_what_was_there_before() -> None:
    with RareCollections():
        assert gc.get_threshold() == (YOUNG, 10, 10)
        assert gc.get_freeze_count() > 1000


def test_afterwards_all_is_as_it_was() -> None:
    with pytest.raises(LookupError), RareCollections():
        raise LookupError

    assert gc.get_threshold() == (700, 10, 10)
    assert gc.get_freeze_count() == 0


def test_entered_twice_it_holds_until_both_have_left() -> None:
    rare = RareCollections()
    with rare:
        with rare:
            pass
        assert gc.get_threshold() == (YOUNG, 10, 10)

    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("own", [0, YOUNG + 1])
def test_a_collector_that_looks_even_more_seldom_is_left_alone(own: int) -> None:
    gc.set_threshold(own, 10, 10)
    with RareCollections():
        assert gc.get_threshold() == (own, 10, 10)

    assert gc.get_threshold() == (own, 10, 10)
