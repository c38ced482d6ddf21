"""libcurl without Trawl: ``curl -Z``, and pycurl's CurlMulti driven by a bare epoll."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.benchmarks.stacks.measuring import Job, Report, Unavailable, Watch

MOST_IN_FLIGHT = 300
"""More than ``curl --parallel-max`` took before version 8.16."""


def curl(job: Job, watch: Watch) -> Report:
    """``curl -Z``: all URLs in one process, bodies to /dev/null. Its own start is in the figure, some 10 ms."""
    program = shutil.which("curl")
    if program is None:
        raise Unavailable("curl is not installed")
    if job.in_flight > MOST_IN_FLIGHT:
        raise Unavailable(f"curl -Z has at most {MOST_IN_FLIGHT} requests in flight")
    urls = job.urls()
    listing = Path(job.directory) / "curl.conf"
    listing.write_text("".join(f'url = "{url}"\noutput = "/dev/null"\n' for url in urls))
    command = [
        program,
        "--disable",
        "--silent",
        "--no-progress-meter",
        "--show-error",
        "--fail",
        "--http1.1",
        "--noproxy",
        "*",
    ]
    command += ["--parallel", "--parallel-immediate", "--parallel-max", str(job.in_flight), "--config", str(listing)]
    command += [] if job.ca_file is None else ["--cacert", job.ca_file]
    watch.begin()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    report = watch.end(len(urls), -1)
    return Report(report.answers, -1, report.seconds, report.cpu, 0, 0)


def raw_pycurl(job: Job, watch: Watch) -> Report:
    """As many easy handles as are in flight, each given its next URL when its last is done."""
    return _Multi(job).run(watch)


class _Multi:
    def __init__(self, job: Job) -> None:
        import select

        import pycurl

        self._pycurl = pycurl
        self._urls = iter(job.urls())
        self._answers = self._size = self._running = 0
        self._epoll = select.epoll()
        self._events = {
            pycurl.POLL_IN: select.EPOLLIN,
            pycurl.POLL_OUT: select.EPOLLOUT,
            pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
        }
        self._in, self._out = select.EPOLLIN, select.EPOLLOUT
        self._watched: set[int] = set()
        self._timeout = 0.0
        self._multi = multi = pycurl.CurlMulti()
        multi.setopt(pycurl.M_SOCKETFUNCTION, self._socket)
        multi.setopt(pycurl.M_TIMERFUNCTION, self._timer)
        multi.setopt(pycurl.M_MAXCONNECTS, 4 * job.in_flight)
        self._handles = [self._handle(job) for _ in range(job.in_flight)]

    def run(self, watch: Watch) -> Report:
        watch.begin()
        for handle in self._handles:
            self._next(handle)
        while self._running:
            ready = self._epoll.poll(self._timeout, 1024)
            if not ready:
                self._multi.socket_action(self._pycurl.SOCKET_TIMEOUT, 0)
            for descriptor, events in ready:
                self._multi.socket_action(descriptor, self._bits(events))
            self._reap()
        return watch.end(self._answers, self._size)

    def _handle(self, job: Job) -> Any:
        pycurl, handle = self._pycurl, self._pycurl.Curl()
        handle.setopt(pycurl.WRITEFUNCTION, self._received)
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.PROXY, "")
        if job.ca_file is not None:
            handle.setopt(pycurl.CAINFO, job.ca_file)
        return handle

    def _next(self, handle: Any) -> None:
        url = next(self._urls, None)
        if url is not None:
            handle.setopt(self._pycurl.URL, url)
            self._multi.add_handle(handle)
            self._running += 1

    def _received(self, data: bytes) -> None:
        self._size += len(data)

    def _reap(self) -> None:
        left = 1
        while left:
            left, done, failed = self._multi.info_read()
            for _, number, text in failed:
                raise RuntimeError(f"libcurl's error {number}: {text}")
            for handle in done:
                self._answers += handle.getinfo(self._pycurl.RESPONSE_CODE) == 200
                self._multi.remove_handle(handle)
                self._running -= 1
                self._next(handle)

    def _socket(self, what: int, descriptor: int, multi: Any, data: Any) -> None:
        if what == self._pycurl.POLL_REMOVE:
            self._watched.discard(descriptor)
            self._epoll.unregister(descriptor)
        elif descriptor in self._watched:
            self._epoll.modify(descriptor, self._events[what])
        else:
            self._watched.add(descriptor)
            self._epoll.register(descriptor, self._events[what])

    def _timer(self, milliseconds: int) -> None:
        self._timeout = 1.0 if milliseconds < 0 else milliseconds / 1000

    def _bits(self, events: int) -> int:
        bits = 0
        if events & self._in:
            bits |= self._pycurl.CSELECT_IN
        if events & self._out:
            bits |= self._pycurl.CSELECT_OUT
        return bits or self._pycurl.CSELECT_ERR
