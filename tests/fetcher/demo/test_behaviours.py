"""What each path does, as a correct client sees it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from fetcher.demo.behaviours import BEHAVIOURS
from fetcher.demo.faults import FAULTS
from fetcher.demo.origin import Origin


@pytest.fixture
async def client(origin: Origin) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=origin.url("/"), trust_env=False, timeout=5) as made:
        yield made


@pytest.mark.parametrize(
    ("path", "status", "value"),
    [
        ("ok/7", 200, {"ok": 7}),
        ("ok", 200, {"ok": 0}),
        ("slow/7?ms=1", 200, {"slow": 7}),
        ("status/418", 418, {"status": 418}),
        ("missing/7", 404, {"missing": 7}),
        ("gzip/7", 200, {"encoded": "gzip", "number": 7}),
        ("deflate/7", 200, {"encoded": "deflate", "number": 7}),
        ("brotli/7", 200, {"encoded": "br", "number": 7}),
        ("interim/7", 200, {"interim": 7}),
        ("idle-close/7", 200, {"closes": 7}),
        ("until-close/7", 200, {"until": "close"}),
        ("headers-flood?count=3&bytes=5", 200, {}),
    ],
)
async def test_an_answer_has_this_status_and_json(
    client: httpx.AsyncClient, path: str, status: int, value: object
) -> None:
    answer = await client.get(path)

    assert (answer.status_code, answer.json()) == (status, value)


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("flaky/1", [503, 200, 200]),
        ("flaky/1?times=2", [503, 503, 200]),
        ("flaky/1?status=500", [500, 200, 200]),
        ("retry-after/1", [429, 200, 200]),
        ("retry-after/1?status=503&seconds=0", [503, 200, 200]),
    ],
)
async def test_a_path_recovers_by_being_asked_again(client: httpx.AsyncClient, path: str, statuses: list[int]) -> None:
    assert [(await client.get(path)).status_code for _ in statuses] == statuses


async def test_each_path_recovers_for_itself(client: httpx.AsyncClient) -> None:
    assert [(await client.get(f"flaky/{number}")).status_code for number in range(3)] == [503, 503, 503]


async def test_retry_after_is_in_seconds(client: httpx.AsyncClient) -> None:
    assert (await client.get("retry-after/1?seconds=7")).headers["Retry-After"] == "7"


class TestValidators:
    @pytest.mark.parametrize(
        ("path", "validator", "condition"),
        [("etag/1", "ETag", "If-None-Match"), ("last-modified/1", "Last-Modified", "If-Modified-Since")],
    )
    async def test_a_known_validator_is_answered_with_304_and_no_body(
        self, client: httpx.AsyncClient, path: str, validator: str, condition: str
    ) -> None:
        first = await client.get(path)
        again = await client.get(path, headers={condition: first.headers[validator]})

        assert (first.status_code, again.status_code, again.content) == (200, 304, b"")

    async def test_one_of_several_tags_is_enough_and_may_be_weak(self, client: httpx.AsyncClient) -> None:
        tag = (await client.get("etag/1")).headers["ETag"]

        assert (await client.get("etag/1", headers={"If-None-Match": f'"other", W/{tag}'})).status_code == 304

    async def test_another_version_has_another_tag(self, client: httpx.AsyncClient) -> None:
        tag = (await client.get("etag/1")).headers["ETag"]

        assert (await client.get("etag/1?version=2", headers={"If-None-Match": tag})).status_code == 200

    async def test_another_origin_has_other_tags(self, client: httpx.AsyncClient) -> None:
        tag = (await client.get("etag/1")).headers["ETag"]

        async with Origin() as other:
            answer = await client.get(other.url("/etag/1"), headers={"If-None-Match": tag})
        assert answer.status_code == 200


class TestRedirects:
    async def test_a_chain_has_as_many_hops_as_asked_for(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("redirect/3/7?status=307", follow_redirects=True)

        assert [hop.status_code for hop in answer.history] == [307, 307, 307]
        assert answer.json() == {"ok": 7}

    async def test_a_loop_points_at_itself(self, client: httpx.AsyncClient) -> None:
        assert (await client.get("redirect-loop/1")).headers["Location"] == "/redirect-loop/1"

    async def test_the_place_can_be_anywhere(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("redirect-to", params={"url": "http://10.0.0.1/?a=1&b=2"})

        assert answer.headers["Location"] == "http://10.0.0.1/?a=1&b=2"


class TestBodies:
    @pytest.mark.parametrize(
        ("path", "length"),
        [
            ("bytes/0", 0),
            ("bytes/100001", 100_001),
            ("big/1", 2**20),
            ("big/1?bytes=100001&declared=1", 100_001),
            ("drip/1?bytes=5&ms=1", 5),
            ("gzip-bomb?bytes=3000001", 3_000_001),
        ],
    )
    async def test_a_body_has_this_length(self, client: httpx.AsyncClient, path: str, length: int) -> None:
        assert len((await client.get(path)).content) == length

    async def test_a_bomb_is_small_on_the_wire(self, client: httpx.AsyncClient) -> None:
        assert int((await client.get("gzip-bomb")).headers["Content-Length"]) < 20_000

    async def test_head_has_no_body(self, client: httpx.AsyncClient) -> None:
        answer = await client.head("ok/1")

        assert (answer.headers["Content-Length"], answer.content) == ("9", b"")

    async def test_a_cookie_is_set_and_shown(self, client: httpx.AsyncClient) -> None:
        await client.get("cookie")

        assert (await client.get("cookie")).json() == {"cookie": "session=42"}

    async def test_an_echo_shows_the_request(self, client: httpx.AsyncClient) -> None:
        shown = (await client.put("echo?a=%20", headers={"X-One": "1"}, content=b"\x00")).json()

        assert (shown["method"], shown["target"], shown["body"]) == ("PUT", "/echo?a=%20", "AA==")
        assert ["X-One", "1"] in shown["headers"]


class TestFaults:
    @pytest.mark.parametrize(
        ("path", "error"),
        [
            ("hang/1", httpx.ReadTimeout),
            ("stall/1", httpx.ReadTimeout),
            ("reset/1", httpx.ReadError),
            ("reset-body/1", httpx.ReadError),
            ("hang-up/1", httpx.RemoteProtocolError),
            ("truncated/1", httpx.RemoteProtocolError),
            ("truncated-chunk/1", httpx.RemoteProtocolError),
            ("bad-chunk/1", httpx.RemoteProtocolError),
            ("two-lengths/1", httpx.RemoteProtocolError),
            ("garbage/1", httpx.RemoteProtocolError),
            ("headers-flood", httpx.RemoteProtocolError),
            ("bad-gzip/1", httpx.DecodingError),
        ],
    )
    async def test_a_client_fails_like_this(
        self, client: httpx.AsyncClient, path: str, error: type[httpx.HTTPError]
    ) -> None:
        with pytest.raises(error):
            await client.get(path, timeout=0.2)

    async def test_a_reset_can_recover(self, client: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.ReadError):
            await client.get("reset/1?times=1")

        assert json.loads((await client.get("reset/1?times=1")).content) == {"recovered": 1}


def test_no_path_has_two_meanings() -> None:
    assert not BEHAVIOURS.keys() & FAULTS.keys()


@pytest.mark.parametrize("name", [*BEHAVIOURS, *FAULTS])
def test_the_docstring_begins_with_the_path(name: str) -> None:
    assert ({**BEHAVIOURS, **FAULTS}[name].__doc__ or "").startswith(f"``/{name}")
