"""What was measured on, and with which versions. Nothing that names the machine."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import ssl
import subprocess
from importlib import metadata
from pathlib import Path

import psycopg

from fetcher.engine.transport import choose_transport

_PACKAGES = (
    "httpx",
    "httpcore",
    "h11",
    "pycurl",
    "aiohttp",
    "uvloop",
    "requests",
    "scrapy",
    "twisted",
    "django",
    "psycopg",
)


def describe_machine() -> dict[str, str]:
    """Return the processor, cores, memory, system, and how busy it is."""
    found = {
        "Processor": _first(r"model name\s*:\s*(.+)", "/proc/cpuinfo") or platform.machine(),
        "Cores": str(os.cpu_count()),
    }
    if memory := _first(r"MemTotal:\s*(\d+) kB", "/proc/meminfo"):
        found["Memory"] = f"{int(memory) / 2**20:.0f} GiB"
    found["System"] = _system()
    found["Load before"] = f"{os.getloadavg()[0]:.1f}"
    return found


def _system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name}, kernel {platform.release()}"


def describe_versions(server: str) -> dict[str, str]:
    """Return the versions of what takes part; ``server`` is PostgreSQL's URL."""
    chosen = choose_transport()
    found = {"Trawl's transport": f"{chosen.name} ({chosen.reason})"}
    found |= {"Python": platform.python_version(), "SQLite": sqlite3.sqlite_version, "OpenSSL": ssl.OPENSSL_VERSION}
    found |= {name: version for name in _PACKAGES if (version := _package(name))}
    found |= {
        "curl": _printed(["curl", "--version"], r"curl (\S+)"),
        "nginx": _printed([_nginx(), "-v"], r"nginx/(\S+)"),
        "PostgreSQL": _postgres(server),
    }
    try:
        import pycurl
    except ImportError:
        pass
    else:
        found["libcurl of pycurl"] = " ".join(pycurl.version.split()[1:3]).removeprefix("libcurl/")
    return {name: version for name, version in found.items() if version}


def _nginx() -> str:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin") or ""


def _package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _printed(command: list[str], pattern: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else ""


def _postgres(server: str) -> str:
    try:
        with psycopg.connect(server, connect_timeout=3) as connection:
            return ".".join(map(str, divmod(connection.info.server_version, 10_000)))
    except psycopg.Error:
        return ""


def _first(pattern: str, path: str) -> str:
    try:
        found = re.search(pattern, Path(path).read_text())
    except OSError:
        return ""
    return found[1].strip() if found else ""
