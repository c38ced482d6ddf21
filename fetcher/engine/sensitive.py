"""Names of headers and query parameters that carry secrets, and the masking of what they carry.

Names come from the IANA registries of HTTP fields and OAuth parameters and from the reference pages of widely used
services (AWS, Azure, Google Cloud, GitHub, GitLab, Shopify, Slack, Vault, Cloudflare, Akamai and others). Patterns
cover the services that are not named. Case does not matter, nor does ``_`` for ``-``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote

MASK = "***"
"""Stands for a secret in what people and programs read."""

SECRET_HEADERS = (
    # Registered: RFC 9110, 6265, 9449 (DPoP), 9421 (Signature)
    "authorization", "*authorization*", "cookie", "cookie2", "dpop", "signature",
    # Kinds of names
    "*token", "*-key", "*-keys", "*apikey", "*accesskey", "*secret", "*secret-*", "*-signature", "*-signature-*",
    "*-sign", "auth", "*-auth", "*-auth-*", "x-authentication", "*password", "*passwd", "*passphrase", "*credential",
    "*credentials", "*jwt", "*-jwt-*", "*-assertion", "*-bearer", "bearer", "*-hmac", "*-hmac-*", "*-otp", "*-totp",
    "*-two-factor-code", "*session", "*session-id", "*sessionid", "*-cookie",
    # Names that no pattern knows: AWS, Azure, Cloudflare, Honeycomb, JFrog, OVH, WS-Security
    "x-amzn-oidc-data", "x-ms-client-principal", "x-ms-copy-source", "cf-access-client-id", "x-honeycomb-team",
    "x-jfrog-art-api", "x-ovh-consumer", "x-wsse",
)  # fmt: skip
"""Names and patterns (``*`` is any text) of headers whose values never leave Trawl but to their origin."""
PUBLIC_HEADERS = (
    # These look like secrets and are none: RFC 6455, Idempotency-Key, cache tags, WebDAV, CORS, RFC 9421, paging
    "sec-websocket-key", "*idempotency-key", "*surrogate-key", "*surrogate-keys", "*cache-key", "*partition-key",
    "*primary-key", "*sort-key", "*public-key", "*object-key", "*routing-key", "lock-token", "sync-token",
    "*page-token", "*continuation-token", "access-control-*", "accept-signature", "content-signature",
    "x-content-signature",
)  # fmt: skip

SECRET_PARAMETERS = (
    # RFC 6749 (OAuth), RFC 6750, OpenID Connect, SAML
    "access_token", "client_secret", "code", "code_verifier", "oauth_verifier", "assertion", "client_assertion",
    "samlresponse", "ticket",
    # Kinds of names
    "*token", "token_*", "key", "*_key", "*apikey", "*accesskey", "*accesskeyid", "*access_key_id", "*privatekey",
    "*secretkey", "*secret", "*secret_*", "sig", "*_sig", "sign", "*_sign", "*signature", "hmac", "*_hmac", "auth",
    "*_auth", "auth_*", "authkey", "*authorization", "*password", "passwd", "pwd", "pass", "passphrase", "*credential",
    "*credentials", "jwt", "*_jwt", "otp", "pin", "session", "sessid", "*sessionid", "*session_id", "phpsessid", "sid",
    # Signed URLs: Akamai, Alibaba, AWS, Azure, Google Cloud (their signatures and tokens are among the patterns)
    "hdnts", "hdnea", "hdntl", "__gda__", "x_amz_credential", "x_goog_credential",
)  # fmt: skip
"""Names and patterns of query parameters whose values are masked in what people read."""
PUBLIC_PARAMETERS = (
    "*page_token", "*pagetoken", "next_token", "nexttoken", "*continuation_token", "*continuationtoken", "sync_token",
    "synctoken", "cache_key", "sort_key", "partition_key", "primary_key", "foreign_key", "public_key", "start_key",
    "end_key", "exclusive_start_key", "last_key", "auth_type", "token_type",
)  # fmt: skip

_KNOWN_NAMES = 1024
_KNOWN_LENGTH = 64
"""Names, and characters of each, that are remembered: the peers choose them."""
_LONGEST = 256
"""Characters; a longer name is taken for a secret's, as no real one is so long and looking for patterns would cost."""
_PIECES = re.compile(r"[\[\].:&?;#/]+")
_AUTHORITY = re.compile(r"(https?:[/\\]*|[/\\]{2,})([^/\\?#\s]*)", re.IGNORECASE)
"""It takes all that it looks at, with ``@`` or without: looking for the ``@`` itself would be quadratic."""
_PARAMETER = re.compile(r"([?&;#]|%3[fFbB]|%26|%23)([^=&?;#\s]{1,200}?)(?:=|%3[dD])")
"""Where a parameter begins: also where the whole URL is the value of another one's parameter, and encoded for that."""
# A value ends at the next parameter; in prose also at white space and quotes.
_VALUE_IN_URL = re.compile(r"[^&#]*"), re.compile(r"(?:(?!%2[36])[^&#])*")
_VALUE_IN_TEXT = re.compile(r"[^&#\s\"'<>]*"), re.compile(r"(?:(?!%2[36])[^&#\s\"'<>])*")


class SecretNames:
    """The names of secrets: the usual ones but ``public`` ones, and those that the operator names.

    Of ``chosen`` names those that begin with ``!`` are never secret. Every name may be a pattern.
    """

    def __init__(self, usual: Iterable[str], public: Iterable[str], chosen: Iterable[str]) -> None:
        chosen = set(chosen)
        self._usual = _pattern(usual)
        self._public = _pattern(public)
        self._chosen = _pattern(name for name in chosen if not name.startswith("!"))
        self._spared = _pattern(name[1:] for name in chosen if name.startswith("!"))
        self._known: dict[str, bool] = {}

    def __contains__(self, name: str) -> bool:
        known = self._known.get(name)
        if known is None:
            known = self._judge(name)
            if len(name) <= _KNOWN_LENGTH:
                if len(self._known) >= _KNOWN_NAMES:
                    self._known.clear()
                self._known[name] = known
        return known

    def _judge(self, name: str) -> bool:
        if len(name) > _LONGEST:
            return True
        plain = _plain(name)
        if self._spared.fullmatch(plain):
            return False
        usual = self._usual.fullmatch(plain) is not None and self._public.fullmatch(plain) is None
        return usual or self._chosen.fullmatch(plain) is not None


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _pattern(names: Iterable[str]) -> re.Pattern[str]:
    parts = (".*".join(map(re.escape, _plain(name).split("*"))) for name in names)
    return re.compile("|".join(parts) or r"(?!)", re.DOTALL)


@lru_cache(maxsize=64)
def secret_headers(chosen: frozenset[str] = frozenset()) -> SecretNames:
    """Return the names of secret headers, with those that the operator chose (``FetchConfig.secret_headers``)."""
    return SecretNames(SECRET_HEADERS, PUBLIC_HEADERS, chosen)


@lru_cache(maxsize=64)
def secret_parameters(chosen: frozenset[str] = frozenset()) -> SecretNames:
    """Return the names of secret query parameters, with those that the operator chose."""
    return SecretNames(SECRET_PARAMETERS, PUBLIC_PARAMETERS, chosen)


def mask_url(url: str, chosen: frozenset[str] = frozenset(), *, mask: str = MASK) -> str:
    """Return a URL as people may read it: without user name and password, values of secret parameters masked.

    The fragment is looked at as well, and so is a URL that is the value of another one's parameter. ``chosen`` are the
    names that the operator chose.
    """
    return _masked(url, _VALUE_IN_URL, chosen, mask)


def mask_text(text: str, chosen: frozenset[str] = frozenset()) -> str:
    """Return a text as people may read it, with every URL in it as ``mask_url`` shows it."""
    return _masked(text, _VALUE_IN_TEXT, chosen, MASK)


def _without_userinfo(authority: str, mask: str) -> str:
    _, at, host = authority.rpartition("@")
    return f"{mask}@{host}" if at else authority


def _masked(text: str, values: tuple[re.Pattern[str], re.Pattern[str]], chosen: frozenset[str], mask: str) -> str:
    if "@" in text:
        text = _AUTHORITY.sub(lambda found: found[1] + _without_userinfo(found[2], mask), text)
    names = secret_parameters(chosen)
    shown, at = [], 0
    while found := _PARAMETER.search(text, at):
        shown.append(text[at : found.end()])
        at = found.end()
        # A name can have parts: user[password], credentials.token
        if any(piece in names for piece in _PIECES.split(unquote(found[2]))):
            value = values[len(found[1]) > 1].match(text, at)
            assert value is not None
            shown.append(mask)
            at = value.end()
    return "".join([*shown, text[at:]]) if shown else text
