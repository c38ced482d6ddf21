"""URLs: what is refused and why, what they become, and that nobody reads them differently afterwards."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fetcher.engine.errors import InvalidUrl
from fetcher.engine.urls import _PLAIN, MAX_LENGTH, Url, _parse_any, fingerprint, join_url, parse_url

USERINFO = "contains a user name or password; send them in an Authorization header instead"


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "is not a URL"),
            ("/path", "is not a URL"),
            ("//example.com/", "is not a URL"),
            ("foo", "is not a URL"),
            ("example.com", "has no scheme; write https://example.com"),
            ("example.com/a?b", "has no scheme; write https://example.com/a?b"),
            ("example.com:8080/a", "has no scheme; write https://example.com:8080/a"),
            ("localhost:8000", "has no scheme; write https://localhost:8000"),
            ("127.0.0.1/x", "has no scheme; write https://127.0.0.1/x"),
            ("ftp://example.com/", "the scheme 'ftp' is not supported; only http and https are"),
            ("mailto:a@example.com", "the scheme 'mailto' is not supported; only http and https are"),
            ("javascript:alert(1)", "the scheme 'javascript' is not supported; only http and https are"),
            ("file:///etc/passwd", "the scheme 'file' is not supported; only http and https are"),
            ("http:example.com", "needs exactly two slashes after http:"),
            ("http:/example.com", "needs exactly two slashes after http:"),
            ("https:///example.com", "needs exactly two slashes after https:"),
            ("http://a b/", "contains white space; write %20 where a space is meant"),
            ("http://example.com/a b", "contains white space; write %20 where a space is meant"),
            ("http://example.com/\u00a0", "contains white space; write %20 where a space is meant"),
            ("http://exa\tmple.com/", "contains white space; write %20 where a space is meant"),
            ("http://example.com/\x00", "contains the control character '\\x00'"),
            ("http://example.com/\x7f", "contains the control character '\\x7f'"),
            ("http://example.com/\ufeff", "contains the control character '\\ufeff'"),
            ("http://example.com\\@evil.com/", "contains a backslash; write / or %5C"),
            ("http://example.com/a\\b", "contains a backslash; write / or %5C"),
            ("http://user@example.com/", USERINFO),
            ("http://user:secret@example.com/", USERINFO),
            ("http://:@example.com/", USERINFO),
            ("http://@example.com/", USERINFO),
            ("http://%6cocalhost/", "has a percent-encoded host; write the name itself"),
            ("http://", "is not a valid URL: its host or port cannot be read"),
            ("http://example.com:99999/", "is not a valid URL: its host or port cannot be read"),
            ("http://example.com:x/", "is not a valid URL: its host or port cannot be read"),
            ("http://[::1/", "is not a valid URL: its host or port cannot be read"),
            ("http://[fe80::1%25eth0]/", "has a percent-encoded host; write the name itself"),
            ("http://1.2.3.256/", "is not a valid URL: its host or port cannot be read"),
            ("http://a..b/", "has a host that no name server can know: 'a..b'"),
            ("http://" + "a" * 64 + ".com/", f"has a host that no name server can know: '{'a' * 64}.com'"),
            ("http://a!b/", "has a host that no name server can know: 'a!b'"),
            ("http://example.com:0/", "has the port 0, which cannot be connected to"),
            ("http://example.com/" + "a" * MAX_LENGTH, f"longer than {MAX_LENGTH} characters"),
            ("http://example.com/" + "\N{SNOWMAN}" * 1000, f"longer than {MAX_LENGTH} characters when encoded"),
            ("http://example.com/\ud800", "is not a valid URL: its host or port cannot be read"),
        ],
    )
    def test_a_refusal_says_what_is_wrong(self, text: str, reason: str) -> None:
        with pytest.raises(InvalidUrl) as caught:
            parse_url(text)

        assert caught.value.detail == reason

    @pytest.mark.parametrize(
        "text", ["joe.doe:s3cret@example.com/", "localhost:s3cret@example.com", "http://joe:s3/cret@x/"]
    )
    def test_a_reason_never_repeats_a_password(self, text: str) -> None:
        with pytest.raises(InvalidUrl) as caught:
            parse_url(text)

        assert "s3" not in caught.value.detail


class TestNormalisation:
    @pytest.mark.parametrize(
        ("text", "href", "host"),
        [
            ("http://example.com", "http://example.com/", "example.com:80"),
            ("https://example.com", "https://example.com/", "example.com:443"),
            ("HTTP://EXAMPLE.com:80/A", "http://example.com/A", "example.com:80"),
            ("http://example.com:8080/", "http://example.com:8080/", "example.com:8080"),
            ("https://example.com:443/", "https://example.com/", "example.com:443"),
            ("http://example.com:443/", "http://example.com:443/", "example.com:443"),
            ("http://example.com/#part", "http://example.com/", "example.com:80"),
            ("http://example.com/?#", "http://example.com/?", "example.com:80"),
            ("http://example.com?q=a#b?c", "http://example.com/?q=a", "example.com:80"),
            ("http://example.com/a/../b/./c", "http://example.com/b/c", "example.com:80"),
            ("http://example.com/%2e%2e/b", "http://example.com/b", "example.com:80"),
            ("http://example.com//b", "http://example.com//b", "example.com:80"),
            ("http://example.com/a%2fb%zz", "http://example.com/a%2fb%zz", "example.com:80"),
            ("http://example.com/@x?y@z", "http://example.com/@x?y@z", "example.com:80"),
            ("http://example.com/?a\\b", "http://example.com/?a\\b", "example.com:80"),
            ("http://example.com./", "http://example.com./", "example.com:80"),
            ("http://b\u00fccher.at/\u00fc?\u00fc", "http://xn--bcher-kva.at/%C3%BC?%C3%BC", "xn--bcher-kva.at:80"),
            ("http://a_b.example/", "http://a_b.example/", "a_b.example:80"),
            ("http://127.1/", "http://127.0.0.1/", "127.0.0.1:80"),
            ("http://0x7f000001/", "http://127.0.0.1/", "127.0.0.1:80"),
            ("http://[::0001]:8080/", "http://[::1]:8080/", "[::1]:8080"),
            ("http://[::ffff:1.2.3.4]/", "http://[::ffff:102:304]/", "[::ffff:102:304]:80"),
        ],
    )  # fmt: skip
    def test_as_the_standard_says(self, text: str, href: str, host: str) -> None:
        url = parse_url(text)

        assert (url.href, url.host) == (href, host)

    def test_the_origin_is_scheme_host_and_port(self) -> None:
        assert parse_url("http://example.com/").origin == ("http", "example.com", 80)
        assert parse_url("https://[::1]:8443/").origin == ("https", "::1", 8443)

    @pytest.mark.parametrize("text", ["https://example.com/a?b", "http://[::1]:1/", "http://xn--bcher-kva.example/%zz"])
    def test_what_is_normalised_stays_as_it_is(self, text: str) -> None:
        assert parse_url(parse_url(text).href) == parse_url(text)


class TestRedirects:
    @pytest.mark.parametrize(
        ("location", "href"),
        [
            ("/b", "http://example.com/b"),
            ("b", "http://example.com/dir/b"),
            ("../b", "http://example.com/b"),
            ("?q", "http://example.com/dir/a?q"),
            ("//other.example/x", "http://other.example/x"),
            ("https://other.example", "https://other.example/"),
            ("HTTPS:other", "https://other/"),
            (" /b\t", "http://example.com/b"),
            ("/a b", "http://example.com/a%20b"),
            ("/b#part", "http://example.com/b"),
            ("#part", "http://example.com/dir/a"),
            ("/\u00fc", "http://example.com/%C3%BC"),
            ("\\\\other.example\\x", "http://other.example/x"),
            ("http://@other.example/", "http://other.example/"),
        ],
    )
    def test_where_a_location_leads(self, location: str, href: str) -> None:
        assert join_url("http://example.com/dir/a", location).href == href

    @pytest.mark.parametrize(
        ("location", "reason"),
        [
            ("http://joe:secret@other.example/", USERINFO),
            ("//joe@other.example/", USERINFO),
            ("ftp://other.example/", "the scheme 'ftp' is not supported; only http and https are"),
            ("file:///etc/passwd", "the scheme 'file' is not supported; only http and https are"),
            ("data:text/plain,x", "the scheme 'data' is not supported; only http and https are"),
            ("javascript:alert(1)", "the scheme 'javascript' is not supported; only http and https are"),
            ("http://[bad", "redirect to what is no URL: 'http://[bad'"),
            ("/a\x00b", "contains the control character '\\x00'"),
            ("/a\tb", "contains the control character '\\t'"),
            ("http://example.com:0/", "has the port 0, which cannot be connected to"),
            ("/" + "a" * MAX_LENGTH, f"redirect to a URL longer than {MAX_LENGTH} characters"),
        ],
    )
    def test_where_nobody_goes(self, location: str, reason: str) -> None:
        with pytest.raises(InvalidUrl) as caught:
            join_url("http://example.com/dir/a", location)

        assert caught.value.detail == reason

    def test_a_location_that_is_no_url_does_not_show_its_password(self) -> None:
        with pytest.raises(InvalidUrl) as caught:
            join_url("http://example.com/", "http://joe:secret@[bad")

        assert "secret" not in caught.value.detail


wild_urls = st.one_of(
    st.text(max_size=60),
    st.builds(
        "{}://{}{}{}".format,
        st.sampled_from(["http", "https", "HTTP"]),
        st.sampled_from(["example.com", "b\u00fccher.example", "[::1]", "127.1", "a_b.c.", "EXAMPLE", "xn--a"])
        | st.text(max_size=12),
        st.sampled_from(["", ":80", ":443", ":8080", ":"]),
        st.text(max_size=30).map(lambda text: "/" + text)
        | st.text("%aZ0{}|^`'\"<>[]\\~!$&()*+,;=:@/?#.-_ \u00e9\U0001f600", max_size=30).map(lambda text: "/" + text),
    ),
)


@given(wild_urls)
def test_httpx_reads_a_normalised_url_as_we_do(text: str) -> None:
    try:
        url = parse_url(text)
    except InvalidUrl:
        assume(False)
    read = httpx.URL(url.href)

    assert (read.scheme, read.port or {"http": 80, "https": 443}[url.scheme]) == (url.scheme, url.port)
    assert read.raw_host.decode() == url.hostname
    assert read.raw_path.decode() == "/" + url.href.split("/", 3)[3]


@given(wild_urls, wild_urls)
def test_wild_text_is_a_url_or_is_refused(text: str, location: str) -> None:
    for read in (lambda: parse_url(text), lambda: join_url("http://example.com/a", location)):
        try:
            url = read()
        except InvalidUrl:
            continue
        assert parse_url(url.href) == url
        assert url.host.startswith(("[", url.hostname.rstrip(".")))


def outcome(parse: Callable[[str], Url], text: str) -> Url | str:
    try:
        return parse(text)
    except InvalidUrl as exc:
        return exc.detail


labels = st.text("ab0x9-_", min_size=1, max_size=4) | st.sampled_from(["a" * 63, "a" * 64, "xn--a", "0x1", "08", ""])
segments = st.text("aZ0.~!$&()*+,;=:@%2eE_-", max_size=6) | st.sampled_from(
    ["..", "%2e", ".%2E", "%2e.", "'", "|", "^"]
)
plain_urls = st.builds(
    "{}://{}{}{}{}".format,
    st.sampled_from(["http", "https"]),
    st.from_regex(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}", fullmatch=True)
    | st.builds(
        "{}{}".format,
        st.lists(labels.map("{}.".format), max_size=3).map("".join),
        st.sampled_from(["com", "a1"]) | labels,
    ),
    st.sampled_from(["", "", "", ".", ":80", ":443", ":8080", ":"]) | st.integers(0, 70000).map(":{}".format),
    st.lists(segments.map("/{}".format), max_size=4).map("".join),
    st.just("") | st.text("aZ0.~!$&()*+,;=:@%/?_-", max_size=6).map("?{}".format) | st.sampled_from(["?'", "#", "?#a"]),
)


@settings(max_examples=1000)
@given(st.from_regex(_PLAIN, fullmatch=True) | plain_urls | wild_urls)
def test_the_short_way_for_plain_urls_gives_what_the_long_way_gives(text: str) -> None:
    assert outcome(parse_url, text) == outcome(_parse_any, text)


@pytest.mark.parametrize("char", [chr(code) for code in range(0x20, 0x180)])
@pytest.mark.parametrize("place", ["http://{}/", "http://a{}b/", "http://a.b/{}", "http://a.b/c{}d", "http://a.b/?{}"])
def test_the_short_way_treats_every_character_as_the_long_way_does(place: str, char: str) -> None:
    text = place.format(char)

    assert outcome(parse_url, text) == outcome(_parse_any, text)


@pytest.mark.parametrize("length", [252, 253, 254])
def test_the_short_way_knows_how_long_a_name_may_be(length: int) -> None:
    text = f"http://{('a' * 49 + '.') * 5}{'a' * (length - 250)}/"

    assert outcome(parse_url, text) == outcome(_parse_any, text)


class TestFingerprint:
    BASE = fingerprint("GET", "http://a/")

    def test_it_is_sixteen_bytes_and_the_same_each_time(self) -> None:
        assert len(self.BASE) == 16
        assert fingerprint("GET", "http://a/") == self.BASE

    @pytest.mark.parametrize(
        "other",
        [
            fingerprint("HEAD", "http://a/"),
            fingerprint("GET", "http://b/"),
            fingerprint("GET", "http://a/", [("X", "1")]),
            fingerprint("GET", "http://a/", body=b""),
            fingerprint("GETh", "ttp://a/"),
        ],
    )
    def test_every_part_counts(self, other: bytes) -> None:
        assert other != self.BASE

    def test_neither_order_nor_case_of_header_names_counts(self) -> None:
        one = fingerprint("GET", "u", [("A", "1"), ("b", "2")])

        assert fingerprint("GET", "u", [("B", "2"), ("a", "1")]) == one

    def test_the_case_of_a_value_counts(self) -> None:
        assert fingerprint("GET", "u", [("A", "x")]) != fingerprint("GET", "u", [("A", "X")])

    @given(
        st.text("ab:", max_size=6), st.text("ab:", max_size=6), st.text("ab:", max_size=6), st.text("ab:", max_size=6)
    )
    def test_parts_cannot_run_into_one_another(self, name: str, value: str, name2: str, value2: str) -> None:
        assume((name, value) != (name2, value2))
        assert fingerprint("GET", "u", [(name, value)]) != fingerprint("GET", "u", [(name2, value2)])
        assert fingerprint("GET", "u", [(name, value)]) != fingerprint("GET", "u", [(name, value), (name2, value2)])
        assert fingerprint("GET", "u", [(name, value)]) != fingerprint("GET", "u", body=(name + value).encode())

    def test_a_secret_value_enters_under_the_key(self) -> None:
        def made(value: str, key: bytes) -> bytes:
            return fingerprint("GET", "u", [("X-Token", value)], is_secret=lambda name: name == "x-token", key=key)

        assert made("s", b"one") == made("s", b"one")
        assert made("s", b"one") != made("t", b"one")
        assert made("s", b"one") != made("s", b"two")

    def test_a_plain_value_does_not(self) -> None:
        assert fingerprint("GET", "u", [("A", "1")], key=b"one") == fingerprint("GET", "u", [("A", "1")], key=b"two")
