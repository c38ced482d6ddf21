"""Keys derived from SECRET_KEY, and the sealing of header values."""

from __future__ import annotations

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from fetcher.engine.types import Headers
from fetcher.secrets import PUBLISHED_KEY, UnsealError, derived_key, seal, unseal

HEADERS = (("Authorization", "Bearer s3cret"), ("Cookie", "é"))


class TestSeal:
    @given(st.lists(st.tuples(st.text(), st.text()), max_size=5).map(tuple))
    def test_comes_back_as_it_was(self, headers):
        assert unseal(seal(headers), Headers) == headers

    def test_shows_nothing_and_never_looks_the_same(self):
        assert b"s3cret" not in seal(HEADERS)
        assert seal(HEADERS) != seal(HEADERS)

    def test_opens_what_the_key_before_sealed(self):
        with override_settings(SECRET_KEY="old"):
            sealed = seal(HEADERS)
        with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]):
            assert unseal(sealed, Headers) == HEADERS

    def test_opens_what_the_published_key_sealed_and_seals_nothing_with_it(self):
        with override_settings(SECRET_KEY=PUBLISHED_KEY):
            sealed = seal(HEADERS)
        assert unseal(sealed, Headers) == HEADERS
        with override_settings(SECRET_KEY="one"):
            ours = seal(HEADERS)
        with override_settings(SECRET_KEY=PUBLISHED_KEY), pytest.raises(UnsealError):
            unseal(ours, Headers)

    @pytest.mark.parametrize("change", [lambda sealed: sealed[:-4], lambda sealed: b"", lambda sealed: b"nonsense"])
    def test_opens_nothing_that_was_changed(self, change):
        with pytest.raises(UnsealError):
            unseal(change(seal(HEADERS)), Headers)

    @override_settings(SECRET_KEY="another")
    def test_opens_nothing_under_another_key(self):
        with override_settings(SECRET_KEY="one"):
            sealed = seal(HEADERS)
        with pytest.raises(UnsealError, match="SECRET_KEY has changed"):
            unseal(sealed, Headers)


class TestDerivedKey:
    def test_is_the_same_for_the_same_purpose_only(self):
        assert derived_key("seal") == derived_key("seal") != derived_key("variant")
        assert len(derived_key("seal")) == 32
