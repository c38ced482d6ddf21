"""A secret key of this project's own, for a machine on which nothing was set."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

SECRET_KEY_BYTES = 48
"""Of randomness; Django's own keys have about 35."""
_LEAST_CHARACTERS = 32


def kept_secret_key(path: Path) -> str:
    """Return the key in a file, which the first process makes: of mode 600, whole, and once for all that ask together.

    Raises ImproperlyConfigured where the file cannot be made or read, or where other users may read it.
    """
    try:
        if not path.exists():
            _make(path)
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise ImproperlyConfigured(f"{path} can be read by other users: remove it, or call chmod 600 {path}")
        key = path.read_text().strip()
    except OSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        raise ImproperlyConfigured(f"SECRET_KEY is not set, and cannot be kept in {path} ({reason}): set it") from None
    if len(key) < _LEAST_CHARACTERS:
        raise ImproperlyConfigured(f"{path} does not hold a secret key: remove it, or set SECRET_KEY")
    return key


def _make(path: Path) -> None:
    """Write the file under another name, and give it its own: only the first of several processes can."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "w") as stream:
            stream.write(f"{secrets.token_urlsafe(SECRET_KEY_BYTES)}\n")
            stream.flush()
            os.fsync(stream.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first: its key counts
            os.link(part, path)
    finally:
        part.unlink()
