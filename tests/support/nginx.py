"""A private nginx with the echo module: a fast origin that is not ours, on up to a hundred loopback addresses.

========================  =====================================================================
``/1k…``                  200 with 1,024 bytes
``/delay…``               200 after 100 ms, without holding a worker
``/etag…``                200 with 1,024 bytes and an ETag, 304 where If-None-Match has it
``/headers…``             200 with the request's head, as it arrived
``/status``               nginx's counters: connections, accepted, handled, requests
========================  =====================================================================
"""

from __future__ import annotations

import contextlib
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

_CONF = """\
{modules}
daemon off;
worker_processes {workers};
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    default_type application/octet-stream;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
{listens}
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
    """A running nginx: the same port on every address."""

    port: int
    addresses: tuple[str, ...]

    @property
    def netlocs(self) -> tuple[str, ...]:
        """``address:port`` of each host."""
        return tuple(f"{address}:{self.port}" for address in self.addresses)

    def url(self, path: str, host: int = 0) -> str:
        """Return a path's URL at one of the hosts; numbers past the last begin again at the first."""
        return f"http://{self.netlocs[host % len(self.addresses)]}/{path.removeprefix('/')}"

    def urls(self, path: str, count: int) -> list[str]:
        """Return distinct URLs below a path, spread evenly over the hosts."""
        return [self.url(f"{path}/{number}", number) for number in range(count)]

    def accepted(self) -> int:
        """Return how many connections were accepted so far, this question's included."""
        with httpx.Client(trust_env=False) as client:
            text = client.get(self.url("/status")).text
        return int(re.findall(r"\d+", text)[1])


def _program() -> str:
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
def running_nginx(directory: Path, *, addresses: int = ADDRESSES, workers: int = 1) -> Iterator[Nginx]:
    """Run nginx on 127.0.0.1 to 127.0.0.``addresses`` until the block ends.

    Raises NginxMissing, and DidNotStart.
    """
    nginx = _program()
    modules = _modules(nginx)
    hosts = tuple(f"127.0.0.{number}" for number in range(1, addresses + 1))
    with contextlib.ExitStack() as stack:
        for left in reversed(range(_TRIES)):
            port = free_port()
            conf = directory / "nginx.conf"
            conf.write_text(
                _CONF.format(
                    modules=modules,
                    workers=workers,
                    directory=directory,
                    listens="\n".join(f"        listen {host}:{port} backlog=4096;" for host in hosts),
                    kilobyte="k" * 1024,
                )
            )
            command: list[str | Path] = [nginx, "-p", directory, "-c", conf, "-e", "stderr"]
            try:
                stack.enter_context(running(command, port, directory / "nginx.log"))
                break
            except DidNotStart:
                if not left:  # the port can be taken in between, or on another of the addresses
                    raise
        yield Nginx(port, hosts)
