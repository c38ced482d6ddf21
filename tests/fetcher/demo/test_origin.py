"""The scripted origin: what it records, how many listen, how it stops."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator

import httpx
import pytest
import trustme

from fetcher.demo.exchange import MAX_HEAD, Exchange
from fetcher.demo.origin import LOG_SIZE, Origin, ThreadedOrigin
from tests.support.waiting import until


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=5) as made:
        yield made


async def raw(origin: Origin, request: bytes) -> bytes:
    """Send bytes and return everything until the origin closes the connection."""
    reader, writer = await asyncio.open_connection(origin.host, origin.port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


class TestRecord:
    async def test_a_request_is_logged_as_it_arrived(self, origin: Origin, client: httpx.AsyncClient) -> None:
        await client.post(origin.url("/echo?a=1"), headers={"X-One": "1"}, content=b"body")

        (entry,) = origin.log
        assert (entry.method, entry.path, entry.header("x-one"), entry.status) == ("POST", "/echo?a=1", "1", 200)

    async def test_start_and_end_enclose_the_time_that_the_answer_took(
        self, origin: Origin, client: httpx.AsyncClient
    ) -> None:
        await client.get(origin.url("/slow/1?ms=50"))

        (entry,) = origin.log
        assert entry.ended is not None
        assert entry.ended - entry.started >= 0.05

    async def test_a_request_in_flight_has_no_end(self, origin: Origin) -> None:
        reader, writer = await asyncio.open_connection(origin.host, origin.port)
        writer.write(b"GET /stall/1 HTTP/1.1\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")

        assert (origin.in_flight, origin.log[0].ended) == (1, None)
        writer.close()

    async def test_the_log_forgets_the_oldest(self, origin: Origin) -> None:
        count = LOG_SIZE + 1
        await raw(origin, b"GET /status/204 HTTP/1.1\r\n\r\n" * count + b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")

        assert len(origin.log) == LOG_SIZE

    async def test_entries_are_found_by_path(self, origin: Origin, client: httpx.AsyncClient) -> None:
        for path in ("/ok/1", "/missing/1", "/ok/2"):
            await client.get(origin.url(path))

        assert [entry.path for entry in origin.requests("/ok/")] == ["/ok/1", "/ok/2"]

    async def test_the_peak_counts_requests_in_flight_together(self, origin: Origin, client: httpx.AsyncClient) -> None:
        await asyncio.gather(*(client.get(origin.url(f"/slow/{number}?ms=100")) for number in range(5)))

        assert (origin.peak, origin.in_flight) == (5, 0)

    async def test_requests_one_after_another_never_overlap(self, origin: Origin, client: httpx.AsyncClient) -> None:
        for number in range(20):
            await client.get(origin.url(f"/ok/{number}"), headers={"Connection": "close"})

        assert origin.peak == 1

    async def test_peaks_are_kept_by_host_header(self, client: httpx.AsyncClient) -> None:
        async with Origin(listeners=2) as origin:
            listeners = [0, 1, 1]
            await asyncio.gather(
                *(client.get(origin.url(f"/slow/{number}?ms=100", n)) for number, n in enumerate(listeners))
            )

            assert (origin.peak, origin.peaks) == (3, {origin.netloc(0): 1, origin.netloc(1): 2})

    async def test_a_kept_connection_is_accepted_once(self, origin: Origin, client: httpx.AsyncClient) -> None:
        for number in range(3):
            await client.get(origin.url(f"/ok/{number}"))

        assert (origin.accepted, [entry.connection for entry in origin.log]) == (1, [1, 1, 1])

    async def test_a_client_that_goes_away_ends_its_request(self, origin: Origin, client: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(origin.url("/hang/1"), timeout=0.05)
        await until(lambda: not origin.in_flight)

        assert origin.log[0].status is None


class TestListening:
    async def test_listeners_share_one_script(self, client: httpx.AsyncClient) -> None:
        async with Origin(listeners=2) as origin:
            answers = [await client.get(origin.url("/flaky/1", listener)) for listener in (0, 1)]

        assert [answer.status_code for answer in answers] == [503, 200]

    async def test_a_port_in_use_is_an_error_and_leaves_nothing_open(self, origin: Origin) -> None:
        with pytest.raises(OSError, match="address already in use"):
            async with Origin(port=origin.port):
                pass

    async def test_an_ipv6_address_is_bracketed(self) -> None:
        try:
            async with Origin("::1") as origin:
                assert origin.url("/ok/1") == f"http://[::1]:{origin.port}/ok/1"
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")

    async def test_it_speaks_tls(self) -> None:
        authority = trustme.CA()
        server, trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        authority.issue_cert("127.0.0.1").configure_cert(server)
        authority.configure_trust(trust)

        async with Origin(context=server) as origin, httpx.AsyncClient(verify=trust, trust_env=False) as client:
            assert (await client.get(origin.url("/ok/1"))).json() == {"ok": 1}

    async def test_routes_add_to_the_script_and_replace_parts_of_it(self, client: httpx.AsyncClient) -> None:
        async def answer(exchange: Exchange) -> None:
            await exchange.answer_json(exchange.segments)

        async with Origin(routes={"/mine": answer, "ok": answer}) as origin:
            answers = [(await client.get(origin.url(path))).json() for path in ("/mine/a/b", "/ok/1", "/slow/1?ms=0")]

        assert answers == [["a", "b"], ["1"], {"slow": 1}]

    async def test_an_unknown_path_is_404(self, origin: Origin, client: httpx.AsyncClient) -> None:
        assert (await client.get(origin.url("/nothing"))).status_code == 404


class TestBadRequests:
    @pytest.mark.parametrize(
        ("request_", "reason"),
        [
            (b"nonsense\r\n\r\n", b"request line"),
            (b"GET / HTTP/2\r\n\r\n", b"speaks HTTP/1.1"),
            (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"no colon"),
            (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"length"),
            (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"length"),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", b"length"),
            (b"GET / HTTP/1.1\r\nX: " + b"x" * 2 * MAX_HEAD + b"\r\n\r\n", b"at most"),
        ],
    )
    async def test_it_says_what_is_wrong(self, origin: Origin, request_: bytes, reason: bytes) -> None:
        answer = await raw(origin, request_)

        assert answer.startswith(b"HTTP/1.1 400 ")
        assert reason in answer

    @pytest.mark.parametrize("path", ["/slow/1?ms=soon", "/status/-1", "/status/999", "/bytes/many"])
    async def test_a_wrong_parameter_is_400(self, origin: Origin, client: httpx.AsyncClient, path: str) -> None:
        assert (await client.get(origin.url(path))).status_code == 400

    async def test_a_chunked_request_body_is_read(self, origin: Origin, client: httpx.AsyncClient) -> None:
        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            yield b"two"

        answer = await client.post(origin.url("/echo"), content=parts())

        assert answer.json()["body"] == "b25ldHdv"

    async def test_a_client_that_expects_100_gets_it(self, origin: Origin) -> None:
        head = b"POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"

        assert (await raw(origin, head + b"hi")).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


class TestStopping:
    async def test_it_stops_while_requests_hang(self, client: httpx.AsyncClient) -> None:
        async with Origin() as origin:
            hanging = asyncio.create_task(client.get(origin.url("/hang/1")))
            await until(lambda: origin.in_flight == 1)

        with pytest.raises(httpx.RemoteProtocolError):
            await hanging

    async def test_it_stops_while_a_client_reads_nothing(self) -> None:
        async with Origin() as origin:
            with socket.create_connection((origin.host, origin.port)) as peer:
                peer.sendall(b"GET /big/1?bytes=100000000 HTTP/1.1\r\n\r\n")
                await until(lambda: origin.in_flight == 1)

    async def test_a_broken_handler_is_raised(self, client: httpx.AsyncClient) -> None:
        async def broken(exchange: Exchange) -> None:
            raise KeyError("a bug in the script")

        async def run() -> None:
            async with Origin(routes={"broken": broken}) as origin:
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.get(origin.url("/broken"))

        with pytest.raises(ExceptionGroup) as caught:
            await run()

        assert caught.value.subgroup(KeyError)


class TestThread:
    def test_a_program_without_a_loop_can_use_it(self) -> None:
        with ThreadedOrigin(listeners=2) as origin, httpx.Client(trust_env=False) as client:
            assert [client.get(origin.url("/ok/1", listener)).json() for listener in (0, 1)] == [{"ok": 1}] * 2

    def test_it_serves_a_loop_in_the_main_thread(self) -> None:
        async def fetch(url: str) -> int:
            async with httpx.AsyncClient(trust_env=False) as client:
                return (await client.get(url)).status_code

        with ThreadedOrigin() as origin:
            assert asyncio.run(fetch(origin.url("/ok/1"))) == 200

    def test_it_leaves_no_thread_behind(self) -> None:
        before = threading.active_count()
        with (
            ThreadedOrigin() as origin,
            httpx.Client(trust_env=False) as client,
            pytest.raises(httpx.ReadTimeout),
        ):
            client.get(origin.url("/hang/1"), timeout=0.05)

        assert threading.active_count() == before

    def test_a_port_in_use_is_raised_where_it_was_entered(self) -> None:
        with (
            ThreadedOrigin() as origin,
            pytest.raises(OSError, match="address already in use"),
            ThreadedOrigin(port=origin.port),
        ):
            pass
