"""The cluster as the fetcher knows it."""

from __future__ import annotations

import pytest

from fetcher.dispatch import DispatchError, NoCluster, dispatcher
from tests.support.recording import RecordingDispatcher


def test_is_what_the_setting_names(settings):
    settings.FETCHER_DISPATCHER = "tests.support.recording.RecordingDispatcher"
    assert isinstance(dispatcher(), RecordingDispatcher)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "there is no cluster: FETCHER_DISPATCHER is not set"),
        ("no.such.Module", "FETCHER_DISPATCHER is 'no.such.Module', which cannot be imported: "),
        ("tests.support.recording.Missing", "FETCHER_DISPATCHER is 'tests.support.recording.Missing', which cannot"),
        ("nodots", "FETCHER_DISPATCHER is 'nodots', which cannot be imported: "),
    ],
    ids=["none", "no module", "no class", "no path"],
)
def test_is_an_error_that_says_why_where_there_is_none(settings, path, reason):
    settings.FETCHER_DISPATCHER = path
    with pytest.raises(NoCluster) as raised:
        dispatcher()
    assert str(raised.value).startswith(reason)
    assert isinstance(raised.value, DispatchError)
