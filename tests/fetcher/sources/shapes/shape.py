"""One file as a program writes it, and what reading it must come to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A file of ``program``, called ``name``.

    ``read`` are its targets, each a URL or a URL and its label. ``noted``, ``rejected`` and ``refused`` are the texts
    that a person sees, without the file's name. Where the file is refused or lines of it are rejected, ``mended`` is
    what the advice makes of it; that is read as ``read`` says, with ``mended_format`` where the advice names one.
    """

    program: str
    name: str
    data: bytes
    read: tuple[str | tuple[str, str], ...] = ()
    noted: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    refused: str = ""
    mended: bytes | None = None
    mended_format: str = "auto"


A, B = "https://example.org/a", "https://example.org/b"
