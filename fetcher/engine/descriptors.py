"""How many files and sockets this process may have open, and what this machine's own limits are called when reached.

A connection, a large body in a temporary file and a database each need a file descriptor. The limit on them
(RLIMIT_NOFILE, getrlimit(2)) is often 1,024, on macOS 256, and mostly a process may raise it.
"""

from __future__ import annotations

import errno
import os
import resource

from fetcher.engine.errors import LocalFault

MOST = 65_536
"""Descriptors that are asked for at most: some systems make room for every one of them in advance."""
_FALLBACK = 10_240
"""The most that macOS grants even if it reports no limit (OPEN_MAX)."""
RESERVED = 64
"""Descriptors left for the database, temporary files, logs, name look-ups and the queue."""
KEPT_PER_REQUEST = 4
"""Connections kept, as a multiple of the concurrency: many hosts with a few each must not close one another's."""


def raise_limit() -> int:
    """Raise this process's limit of open files as far as it may, up to ``MOST``, and return what it is then.

    For commands and workers only: it holds for the whole process, and code that uses ``select(2)`` fails with
    descriptors above 1,023.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (MOST, _FALLBACK):
        wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
        if _is_less(soft, wanted):
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            except (ValueError, OSError):
                continue
        break
    return open_files_limit()


def open_files_limit() -> int:
    """Return how many descriptors this process may have open."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST if soft == resource.RLIM_INFINITY else soft


def affordable(concurrency: int) -> tuple[int, int]:
    """Return how many requests may be in flight, ``concurrency`` at most and one at least, and connections be kept.

    A third of what is free is for connections in flight: for each of them up to two large bodies may be in temporary
    files. Connections that are kept take what these leave.
    """
    free = open_files_limit() - RESERVED - _open_now()
    afforded = max(1, min(concurrency, free // 3))
    return afforded, max(afforded, min(KEPT_PER_REQUEST * concurrency, free - 2 * afforded))


def lowered_concurrency(concurrency: int) -> tuple[int, str]:
    """Return how many requests may be in flight, and a remark for people where that is less than was asked for."""
    afforded, _ = affordable(concurrency)
    if afforded == concurrency:
        return concurrency, ""
    return afforded, (
        f"the limit of open files is {open_files_limit()}, --concurrency is lowered from {concurrency} to {afforded}; "
        "raise the limit with ulimit -n"
    )


def local_fault(number: int | None) -> LocalFault | None:
    """Return what an error number says of this machine when a connection is opened, None where it says nothing.

    The caller judges EADDRNOTAVAIL: with IPv6 it mostly means a missing route.
    """
    if number == errno.EMFILE:
        return LocalFault(
            f"this process has as many files open as it may ({open_files_limit()}); raise the limit (ulimit -n) or "
            "lower --concurrency"
        )
    if number == errno.ENFILE:
        return LocalFault("this machine has as many files open as it may; raise its limit or lower --concurrency")
    if number in (errno.ENOBUFS, errno.ENOMEM):
        return LocalFault("this machine has no memory for another connection; lower --concurrency")
    return None


def ports_used_up(address: str) -> LocalFault:
    """Return the fault for EADDRNOTAVAIL from connect(2): no local port is left for connections to an address."""
    return LocalFault(f"this machine has no port left for a connection to {address}; lower --concurrency")


def exhausted() -> LocalFault | None:
    """Return the fault where this process can open nothing more at present.

    Libraries tell of that as of something else: getaddrinfo(3) may call a name unknown when it cannot open its files.
    """
    try:
        os.close(os.dup(0))
    except OSError as exc:
        return local_fault(exc.errno)
    return None


def _open_now() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder))  # noqa: PTH208 - names are all that is wanted
        except OSError:
            continue
    return 0


def _is_less(soft: int, wanted: int) -> bool:
    return soft != resource.RLIM_INFINITY and soft < wanted
