"""Keys derived from ``SECRET_KEY``, and the sealing of header values that must survive until their run is over."""

from __future__ import annotations

import base64
from typing import Any, TypeVar

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.utils.crypto import salted_hmac

T = TypeVar("T")


PUBLISHED_KEY = "for development only: whoever reads this can forge a session"
"""The ``SECRET_KEY`` of earlier development settings, which everybody can read. What it sealed can still be opened."""


class UnsealError(Exception):
    """What was sealed cannot be opened: it was sealed under another ``SECRET_KEY``."""


def derived_key(purpose: str, secret: str | bytes | None = None) -> bytes:
    """Return 32 bytes for one purpose; different purposes cannot be confused with each other."""
    return salted_hmac(f"fetcher.{purpose}", "key", secret=secret, algorithm="sha256").digest()


def _box() -> MultiFernet:
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS, PUBLISHED_KEY]  # the first one seals
    return MultiFernet([Fernet(base64.urlsafe_b64encode(derived_key("seal", secret))) for secret in secrets])


def seal(value: Any) -> bytes:
    """Encrypt what JSON can hold (Fernet: AES-128-CBC and HMAC-SHA256) for storing."""
    return _box().encrypt(msgspec.json.encode(value))


def unseal(sealed: bytes, kind: type[T]) -> T:
    """Open what ``seal`` made of a ``kind``. Raises UnsealError."""
    try:
        return msgspec.json.decode(_box().decrypt(bytes(sealed)), type=kind)
    except InvalidToken:
        raise UnsealError("the run's stored headers cannot be read: SECRET_KEY has changed") from None
