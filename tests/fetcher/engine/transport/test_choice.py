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

    @pytest.mark.parametrize("name", ["httpx", "h11", "httpcore"])
    def test_is_httpx_where_that_is_asked_for(self, name: str) -> None:
        chosen = choose_transport(ConnectionOptions(transport=name))  # type: ignore[arg-type]
        assert (chosen.name, chosen.reason, chosen.is_fallback) == ("httpx", f"FETCHER_TRANSPORT is {name}", False)

    def test_is_httpx_without_pycurl_and_says_what_to_install(self) -> None:
        told = without_pycurl("")
        assert "name='httpx'" in told
        assert "is_fallback=True" in told
        assert "pip install pycurl" in told

    def test_is_an_error_where_libcurl_is_asked_for_and_not_there(self) -> None:
        assert without_pycurl("transport='libcurl'").startswith("transport is libcurl, but pycurl cannot be imported")

    @pytest.mark.parametrize(("option", "value"), [("proxy", "http://gate:3128"), ("http2", True)])
    def test_is_an_error_where_httpx_knows_less_than_is_asked_for(self, option: str, value: object) -> None:
        assert without_pycurl(f"{option}={value!r}").startswith(
            f"{option} needs libcurl, and httpx takes its place since"
        )
        with pytest.raises(ConfigError, match="needs libcurl, and httpx is what FETCHER_TRANSPORT asks for") as caught:
            choose_transport(ConnectionOptions(transport="httpx", **{option: value}))  # type: ignore[arg-type]
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

    @pytest.mark.parametrize(("name", "made"), [("libcurl", LibcurlTransport), ("httpx", HttpTransport)])
    async def test_is_what_is_opened(self, name: str, made: type) -> None:
        transport = open_transport(FetchConfig(), ConnectionOptions(transport=name))  # type: ignore[arg-type]
        assert isinstance(transport, made)
        await transport.aclose()


NO_KEY = "it holds no private key in PEM; FETCHER_CLIENT_KEY names the file that does"
NOT_ITS = "it is not the key of that certificate"
LOCKED = "its private key is encrypted, and nobody is there to be asked for the password"


class TestFiles:
    def test_that_are_there_and_readable_are_taken(self, tmp_path: Path) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        authority.issue_cert("me").private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")
        check_files(ConnectionOptions(ca_file=str(tmp_path / "ca.pem"), client_cert=str(tmp_path / "me.pem")))

    @pytest.mark.parametrize(
        ("options", "name", "file", "reason"),
        [
            ({"ca_file": "none"}, "ca_file", "none", "No such file or directory"),
            ({"ca_file": "junk"}, "ca_file", "junk", "it holds no usable PEM data"),
            ({"client_cert": "none"}, "client_cert", "none", "No such file or directory"),
            ({"client_cert": "junk"}, "client_cert", "junk", "it holds no certificate in PEM"),
            ({"client_cert": "key"}, "client_cert", "key", "it holds no certificate in PEM"),
            ({"client_cert": "half"}, "client_cert", "half", "it holds no usable PEM data"),
            ({"client_cert": "cert"}, "client_cert", "cert", NO_KEY),
            ({"client_cert": "cert", "client_key": "none"}, "client_key", "none", "No such file or directory"),
            ({"client_cert": "cert", "client_key": "junk"}, "client_key", "junk", NO_KEY),
            (
                {"client_cert": "cert", "client_key": "other"},
                "client_key",
                "other",
                NOT_ITS,
            ),
            ({"client_cert": "cert", "client_key": "locked"}, "client_key", "locked", LOCKED),
        ],
    )
    def test_that_cannot_be_used_are_named(
        self, tmp_path: Path, options: dict[str, str], name: str, file: str, reason: str
    ) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("me")
        issued.cert_chain_pems[0].write_to_path(tmp_path / "cert")
        issued.private_key_pem.write_to_path(tmp_path / "key")
        authority.issue_cert("other").private_key_pem.write_to_path(tmp_path / "other")
        (tmp_path / "junk").write_text("no certificate")
        (tmp_path / "half").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----BEGIN PRIVATE KEY-----\n")
        (tmp_path / "locked").write_text(
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
        )
        with pytest.raises(ConfigError) as caught:
            check_files(ConnectionOptions(**{key: str(tmp_path / text) for key, text in options.items()}))
        assert (caught.value.name, str(caught.value)) == (name, f"{tmp_path / file} cannot be used: {reason}")


def test_a_proxy_with_a_mistake_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        ConnectionOptions(proxy="http//user:s3cret@gate")
    assert "s3cret" not in str(caught.value)
