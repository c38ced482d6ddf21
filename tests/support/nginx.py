"""A private nginx with the echo module: a fast origin that is not ours, on up to a hundred loopback addresses.

========================  =====================================================================
``/1k…``                  200 with 1,024 bytes
``/own…``                 200 with the path and 1,024 bytes of prose: a body of its own for each URL
``/100k…``                200 with 102,400 bytes
``/files/NAME``           200 with a file that was put into the folder, as it is
``/delay…``               200 after 100 ms, without holding a worker
``/etag…``                200 with 1,024 bytes and an ETag, 304 where If-None-Match has it
``/headers…``             200 with the request's head, as it arrived
``/status``               nginx's counters: connections, accepted, handled, requests
========================  =====================================================================

With a certificate it answers the same over TLS, at another port.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.processes import DidNotStart, free_port, running

ADDRESSES = 100
_TRIES = 3
_PROSE = (
    "A list of addresses is read line by line, and each line that is one becomes a target. Those of one host are kept "
    "together, so that whoever asks that host can be polite to it: not too many requests at once, a pause where the "
    "server wants one, and no more questions once it has said nothing for too long. What comes back is kept with its "
    "status, its headers and the time that it took; a body that was seen before is kept once. When the power fails in "
    "the middle of the night the list is not begun again: what has an answer has one, and the rest is asked for next. "
    "Numbers such as 17, 404, 8080 or 1969 stand in most pages, and so do names, dates, tables and the same ten words "
    "in every menu. Prose of this kind shrinks to about half its size, which is why it is compressed before it is "
    "stored, and why a measurement with a thousand times one letter would tell too little about how long saving takes. "
)
_KILOBYTE = (_PROSE * 2)[:1024]

_CONF = """\
{modules}
{user}
daemon off;
worker_processes {workers};
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=10;
    default_type application/octet-stream;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
{listens}
{tls}
        root {directory};
        location /own {{ return 200 "$uri {prose}"; }}
        location /100k {{ try_files /100k.txt =404; }}
        location /files/ {{ alias {directory}/; }}
        location /1k {{ return 200 "{kilobyte}"; }}
        location /etag {{
            if ($http_if_none_match = '"1"') {{ return 304; }}
            add_header ETag '"1"';
            return 200 "{kilobyte}";
        }}
        location /delay {{ echo_sleep 0.1; echo delayed; }}
        location /headers {{ echo -n $echo_client_request_headers; }}
        location = /status {{ stub_status; }}
    }}
}}
"""


class NginxMissing(Exception):
    """nginx or its echo module is not installed; the text says what to install."""


@dataclass(frozen=True, slots=True)
class Nginx:
    """A running nginx: the same port on every address. ``secure`` is the same with TLS, where it has a certificate."""

    port: int
    addresses: tuple[str, ...]
    scheme: str = "http"
    secure: Nginx | None = None

    @property
    def netlocs(self) -> tuple[str, ...]:
        """``address:port`` of each host."""
        return tuple(f"{address}:{self.port}" for address in self.addresses)

    def url(self, path: str, host: int = 0) -> str:
        """Return a path's URL at one of the hosts; numbers past the last begin again at the first."""
        return f"{self.scheme}://{self.netlocs[host % len(self.addresses)]}/{path.removeprefix('/')}"

    def urls(self, path: str, count: int) -> list[str]:
        """Return distinct URLs below a path, spread evenly over the hosts."""
        return [self.url(f"{path}/{number}", number) for number in range(count)]

    def accepted(self) -> int:
        """Return how many connections were accepted so far, this question's included."""
        return self.counters()[0]

    def counters(self) -> tuple[int, int]:
        """Return how many connections were accepted and requests answered so far, this question's included."""
        with httpx.Client(trust_env=False) as client:
            text = client.get(self.url("/status")).text
        accepted, _, requests = re.findall(r"\d+", text)[1:4]
        return int(accepted), int(requests)


def nginx_program() -> str:
    """Return nginx's path. Raises NginxMissing."""
    # Ordinary users often have no sbin in their PATH.
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        raise NginxMissing("nginx is not installed (Debian: apt-get install nginx libnginx-mod-http-echo)")
    return nginx


def _modules(nginx: str) -> str:
    built = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=True, timeout=10).stderr
    found = re.search(r"--modules-path=(\S+)", built)
    folder = Path(found[1] if found else "/usr/lib/nginx/modules")
    echo, kit = folder / "ngx_http_echo_module.so", folder / "ndk_http_module.so"
    if not echo.exists():
        raise NginxMissing("nginx has no echo module (Debian: apt-get install libnginx-mod-http-echo)")
    # Some builds of the echo module need the development kit's module, loaded before it.
    return "\n".join(f"load_module {module};" for module in (kit, echo) if module.exists())


@contextlib.contextmanager
def running_nginx(
    directory: Path, *, addresses: int = ADDRESSES, workers: int = 1, certificate: tuple[Path, Path] | None = None
) -> Iterator[Nginx]:
    """Run nginx on 127.0.0.1 to 127.0.0.``addresses`` until the block ends.

    ``certificate`` is its file and that of the key. Raises NginxMissing, and DidNotStart.
    """
    nginx = nginx_program()
    modules = _modules(nginx)
    (directory / "100k.txt").write_bytes(b"k" * 102_400)
    hosts = tuple(f"127.0.0.{number}" for number in range(1, addresses + 1))
    with contextlib.ExitStack() as stack:
        for left in reversed(range(_TRIES)):
            port, tls_port = free_port(), free_port() if certificate else 0
            conf = directory / "nginx.conf"
            conf.write_text(
                _CONF.format(
                    modules=modules,
                    # Root's workers would be another user, to whom temporary folders are closed.
                    user="user root;" if os.geteuid() == 0 else "",
                    workers=workers,
                    directory=directory,
                    listens="\n".join(f"        listen {host}:{port} backlog=4096;" for host in hosts),
                    tls=_tls(hosts, tls_port, certificate) if certificate else "",
                    kilobyte="k" * 1024,
                    prose=_KILOBYTE,
                )
            )
            command: list[str | Path] = [nginx, "-p", directory, "-c", conf, "-e", "stderr"]
            try:
                stack.enter_context(running(command, port, directory / "nginx.log"))
                break
            except DidNotStart:
                if not left:  # the port can be taken in between, or on another of the addresses
                    raise
        yield Nginx(port, hosts, secure=Nginx(tls_port, hosts, "https") if certificate else None)


def _tls(hosts: tuple[str, ...], port: int, certificate: tuple[Path, Path]) -> str:
    names = ("ssl_certificate", "ssl_certificate_key")
    lines = [f"listen {host}:{port} ssl http2 backlog=4096;" for host in hosts]
    lines += [f"{name} {path};" for name, path in zip(names, certificate, strict=True)]
    return "\n".join(f"        {line}" for line in lines)
