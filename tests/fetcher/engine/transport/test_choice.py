"""Which transport is used, what is said of it, and mistakes that are found before anything is sent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from fetcher.engine.config import ConfigError, FetchConfig
from fetcher.engine.transport import ConnectionOptions, choose_transport, open_transport
from fetcher.engine.transport.choice import check_files, problem_of
from fetcher.engine.transport.http import HttpTransport
from fetcher.engine.transport.libcurl import LibcurlTransport

_WITHOUT_PYCURL = """
import sys
sys.modules["pycurl"] = None
from fetcher.engine.config import ConfigError
from fetcher.engine.transport import ConnectionOptions, choose_transport
try:
    print(choose_transport(ConnectionOptions({options})))
except ConfigError as exc:
    print(exc.name, exc)
"""


def without_pycurl(options: str) -> str:
    code = _WITHOUT_PYCURL.format(options=options)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


class TestTheChoice:
    def test_is_libcurl_where_it_is(self) -> None:
        chosen = choose_transport()
        assert (chosen.name, chosen.is_fallback) == ("libcurl", False)
        assert chosen.shown.startswith("libcurl ")

    @pytest.mark.parametrize("name", ["h11", "httpcore"])
    def test_is_h11_where_that_is_asked_for(self, name: str) -> None:
        chosen = choose_transport(ConnectionOptions(transport=name))  # type: ignore[arg-type]
        assert (chosen.name, chosen.reason, chosen.is_fallback) == ("h11", f"FETCHER_TRANSPORT is {name}", False)

    def test_is_h11_without_pycurl_and_says_what_to_install(self) -> None:
        told = without_pycurl("")
        assert "name='h11'" in told
        assert "is_fallback=True" in told
        assert "pip install pycurl" in told

    def test_is_an_error_where_libcurl_is_asked_for_and_not_there(self) -> None:
        assert without_pycurl("transport='libcurl'").startswith("transport is libcurl, but pycurl cannot be imported")

    @pytest.mark.parametrize(("option", "value"), [("proxy", "http://gate:3128"), ("http2", True)])
    def test_is_an_error_where_h11_knows_less_than_is_asked_for(self, option: str, value: object) -> None:
        assert without_pycurl(f"{option}={value!r}").startswith(
            f"{option} needs libcurl, and h11 takes its place since"
        )
        with pytest.raises(ConfigError, match="needs libcurl, and h11 is what FETCHER_TRANSPORT asks for") as caught:
            choose_transport(ConnectionOptions(transport="h11", **{option: value}))  # type: ignore[arg-type]
        assert caught.value.name == option

    @pytest.mark.parametrize(
        ("version", "tls", "problem"),
        [
            ("8.23.0", "OpenSSL/3.6.5", ""),
            ("7.87.0", "GnuTLS/3.8", ""),
            ("7.88.1-DEV", "OpenSSL/3.0", ""),
            ("7.86.0", "OpenSSL/3.0", "libcurl 7.86.0 is older than 7.87.0: install pycurl's wheel"),
            ("8.23.0", None, "libcurl 8.23.0 knows no TLS: install pycurl's wheel"),
        ],
    )
    def test_refuses_a_libcurl_that_will_not_do(self, version: str, tls: str | None, problem: str) -> None:
        assert problem_of(version, tls).startswith(problem)
        assert bool(problem_of(version, tls)) == bool(problem)

    @pytest.mark.parametrize(("name", "made"), [("libcurl", LibcurlTransport), ("h11", HttpTransport)])
    async def test_is_what_is_opened(self, name: str, made: type) -> None:
        transport = open_transport(FetchConfig(), ConnectionOptions(transport=name))  # type: ignore[arg-type]
        assert isinstance(transport, made)
        await transport.aclose()


class TestFiles:
    def test_that_are_there_and_readable_are_taken(self, tmp_path: Path) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        authority.issue_cert("me").private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")
        check_files(ConnectionOptions(ca_file=str(tmp_path / "ca.pem"), client_cert=str(tmp_path / "me.pem")))

    @pytest.mark.parametrize(
        ("options", "name"),
        [
            ({"ca_file": "{}"}, "ca_file"),
            ({"client_cert": "{}"}, "client_cert"),
            ({"client_cert": "{}", "client_key": "{}"}, "client_key"),
        ],
    )
    @pytest.mark.parametrize(
        ("content", "reason"),
        [(None, "No such file or directory"), ("no certificate", "it holds no usable PEM data")],
    )
    def test_that_cannot_be_used_are_named(
        self, tmp_path: Path, options: dict[str, str], name: str, content: str | None, reason: str
    ) -> None:
        path = tmp_path / "file.pem"
        if content is not None:
            path.write_text(content)
        with pytest.raises(ConfigError) as caught:
            check_files(ConnectionOptions(**{key: text.format(path) for key, text in options.items()}))
        assert (caught.value.name, str(caught.value)) == (name, f"{path} cannot be used: {reason}")


def test_a_proxy_with_a_mistake_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        ConnectionOptions(proxy="http//user:s3cret@gate")
    assert "s3cret" not in str(caught.value)
