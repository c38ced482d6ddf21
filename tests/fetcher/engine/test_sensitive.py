"""Names of headers and parameters that carry secrets, and the masking of what they carry."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.engine.sensitive import (
    PUBLIC_HEADERS,
    PUBLIC_PARAMETERS,
    SECRET_HEADERS,
    SECRET_PARAMETERS,
    mask_text,
    mask_url,
    secret_headers,
    secret_parameters,
)
from tests.support.processes import ROOT

# As the services' own documents and the IANA registry of HTTP fields write them.
SECRET = [
    "Authorization", "Proxy-Authorization", "Cookie", "DPoP", "Signature", "X-Api-Key", "Api-Key", "apikey",
    "X-Auth-Token", "Token", "X-CSRF-Token", "X-Amz-Security-Token", "X-Amz-Server-Side-Encryption-Customer-Key",
    "X-Amzn-Oidc-Accesstoken", "X-Amzn-Oidc-Data", "Ocp-Apim-Subscription-Key", "X-Functions-Key", "aeg-sas-key",
    "aeg-sas-token", "X-Ms-Encryption-Key", "X-Ms-Authorization-Auxiliary", "X-Ms-Copy-Source", "X-Goog-Api-Key",
    "X-Goog-Iap-Jwt-Assertion", "X-Goog-Channel-Token", "X-Goog-Encryption-Key", "Private-Token", "Job-Token",
    "Deploy-Token", "X-Gitlab-Token", "X-GitHub-OTP", "X-Hub-Signature-256", "Circle-Token",
    "X-Shopify-Access-Token", "X-Shopify-Hmac-Sha256", "Stripe-Signature", "X-Slack-Signature",
    "X-Twilio-Signature", "X-Vault-Token", "X-Consul-Token", "X-Nomad-Token", "X-Auth-Key", "X-Auth-Email",
    "Cf-Access-Jwt-Assertion", "CF-Access-Client-Secret", "Fastly-Key", "X-RapidAPI-Key", "X-Algolia-API-Key",
    "DD-API-KEY", "DD-APPLICATION-KEY", "X-Honeycomb-Team", "X-License-Key", "X-Sentry-Auth", "X-JFrog-Art-Api",
    "X-NuGet-ApiKey", "AccessKey", "X-MBX-APIKEY", "CB-ACCESS-SIGN", "CB-ACCESS-PASSPHRASE", "X-OVH-Signature",
    "X-OVH-Consumer", "X-Parse-REST-API-Key", "X-Hasura-Admin-Secret", "X-Figma-Token", "X-Plex-Token",
    "X-Subject-Token", "X-Storage-Token", "X-Tableau-Auth", "Heroku-Two-Factor-Code", "X-Ops-Authorization-1",
    "X-Forwarded-Authorization", "Mcp-Session-Id", "X-WSSE", "X_Api_Key", "x-api-KEY",
]  # fmt: skip
PLAIN = [
    "Accept", "Accept-Signature", "Access-Control-Allow-Credentials", "Authentication-Info", "Cache-Key",
    "Content-Type", "Content-Length", "Date", "ETag", "Host", "Idempotency-Key", "If-None-Match", "Keep-Alive",
    "Last-Modified", "Link", "Location", "Lock-Token", "Proxy-Authenticate", "Public-Key-Pins", "Retry-After",
    "Sec-WebSocket-Accept", "Sec-WebSocket-Key", "Server", "Signature-Input", "Surrogate-Key", "Sync-Token",
    "User-Agent", "Vary", "WWW-Authenticate", "X-Amz-Cf-Id", "X-Cache", "X-Cache-Key", "X-Idempotency-Key",
    "X-Next-Page-Token", "X-Request-Id",
]  # fmt: skip
PARAMETERS = [
    "api_key", "apikey", "apiKey", "api-key", "access_token", "accessToken", "token", "auth_token",
    "refresh_token", "id_token", "sig", "signature", "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token",
    "X-Goog-Signature", "X-Goog-Credential", "AWSAccessKeyId", "OSSAccessKeyId", "key", "client_secret",
    "clientSecret", "password", "passwd", "pwd", "code", "jwt", "subscription-key", "hdnea", "session_id",
    "PHPSESSID", "user[password]", "credentials.token", "hmac", "auth", "otp", "SAMLResponse", "%61pi_key",
]  # fmt: skip
PLAIN_PARAMETERS = [
    "q", "page", "page_token", "pageToken", "next_token", "sort_key", "max_tokens", "id", "keyword", "author",
    "codec", "signed", "X-Amz-Date",
]  # fmt: skip


def test_list_knows_the_field() -> None:
    assert len(SECRET_HEADERS) >= 40
    assert len(SECRET_PARAMETERS) >= 40


@pytest.mark.parametrize("name", SECRET)
def test_header_of_a_known_service_is_secret(name: str) -> None:
    assert name in secret_headers()


@pytest.mark.parametrize("name", PLAIN)
def test_header_that_only_looks_like_one_is_not(name: str) -> None:
    assert name not in secret_headers()


@pytest.mark.parametrize("name", PARAMETERS)
def test_secret_parameter_is_masked(name: str) -> None:
    assert mask_url(f"https://a.example/?a=1&{name}=s%2Fecret&b=2") == f"https://a.example/?a=1&{name}=***&b=2"


@pytest.mark.parametrize("name", PLAIN_PARAMETERS)
def test_other_parameter_is_not(name: str) -> None:
    assert mask_url(f"https://a.example/?{name}=value#top") == f"https://a.example/?{name}=value#top"


@pytest.mark.parametrize(
    ("chosen", "name", "secret"),
    [
        ("x-color", "X-Color", True),
        ("x-acme-*", "X-Acme-Anything", True),
        ("x-acme-*", "X-Other", False),
        ("!x-api-key", "X-Api-Key", False),
        ("!*-key", "X-Api-Key", False),
        ("idempotency-key", "Idempotency-Key", True),
        ("a.c", "abc", False),
    ],
)
def test_operator_adds_names_and_takes_some_out(chosen: str, name: str, secret: bool) -> None:
    names = frozenset({chosen})
    assert (name in secret_headers(names)) is secret
    assert (name in secret_parameters(names)) is secret


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@a.example/", "https://***@a.example/"),
        ("//user:pass@a.example/x", "//***@a.example/x"),
        ("https:user:pass@a.example/", "https:***@a.example/"),
        ("https:\\\\user:pass@a.example", "https:\\\\***@a.example"),
        ("///user:https:pass@word@a.example/x", "///***@a.example/x"),
        ("https://a.example/@user", "https://a.example/@user"),
        ("https://a.example/cb#access_token=abc&state=1", "https://a.example/cb#access_token=***&state=1"),
        ("https://a.example/x;jsessionid=abc", "https://a.example/x;jsessionid=***"),
        (
            "https://a.example/?next=https%3A%2F%2Fb.example%2F%3Ftoken%3Dabc%26c%3Dd&e=f",
            "https://a.example/?next=https%3A%2F%2Fb.example%2F%3Ftoken%3D***%26c%3Dd&e=f",
        ),
        (
            "https://a.example/?next=https://b.example/?sig=abc&e=f",
            "https://a.example/?next=https://b.example/?sig=***&e=f",
        ),
        ("https://a.example/?token=with space&a=b", "https://a.example/?token=***&a=b"),
        ("https://a.example/?token=a%26b", "https://a.example/?token=***"),
        ("https://a.example/?token", "https://a.example/?token"),
        ("https://a.example/?a=token", "https://a.example/?a=token"),
    ],
)
def test_url_is_shown_without_secrets(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_mask_can_be_a_word_to_fill_in() -> None:
    assert mask_url("http://a.example/?key=abc", mask="SECRET") == "http://a.example/?key=SECRET"


def test_text_keeps_what_stands_around_its_urls() -> None:
    text = "redirect to 'https://u:p@a.example/?code=abc': not allowed (see http://b.example/?sig=x&y=1)"
    assert (
        mask_text(text)
        == "redirect to 'https://***@a.example/?code=***': not allowed (see http://b.example/?sig=***&y=1)"
    )


@given(st.text(max_size=200))
def test_any_text_can_be_masked_and_nothing_is_masked_twice(text: str) -> None:
    shown = mask_url(text)
    assert mask_url(shown) == shown
    mask_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "?a" * 50_000,
        "?a=" * 50_000,
        "%3fa" * 50_000,
        "//" * 50_000 + "@",
        "https:" * 30_000 + "@",
        "@/" + "https:" * 30_000,
        "?" + "a" * 200_000,
    ],
)
def test_long_text_costs_no_more_than_its_length(text: str) -> None:
    def seconds(text: str) -> float:
        began = time.process_time()
        mask_url(text)
        secret_headers()._judge(text)
        return time.process_time() - began

    assert min(seconds(text) for _ in range(3)) < 2  # quadratic: minutes


def test_peers_cannot_fill_the_memory_of_names() -> None:
    names = secret_headers()
    for number in range(5000):
        assert f"x-{number}" not in names
    assert "x-" + "a" * 100_000 in names
    assert len(names._known) <= 1024
    assert max(map(len, names._known)) <= 64


def test_documentation_names_them_all() -> None:
    page = (ROOT / "docs" / "secrets.md").read_text()
    names = (*SECRET_HEADERS, *PUBLIC_HEADERS, *SECRET_PARAMETERS, *PUBLIC_PARAMETERS)
    assert [name for name in names if f"`{name}`" not in page] == []
