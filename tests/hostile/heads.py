"""Status lines and header fields as no server should send them (RFC 9112, sections 4 and 5)."""

from __future__ import annotations

from tests.hostile.reply import (
    HTTP_STATUS,
    INVALID_URL,
    NOT_MODIFIED,
    PROTOCOL,
    REDIRECTS,
    SUCCEEDED,
    TIMEOUT,
    TOO_LARGE,
    Family,
    answer,
    headed,
)

STATUS = Family("status")
HEADS = Family("head")
LENGTHS = Family("length")
REDIRECTED = Family("redirect")

_OK = b"\r\nContent-Length: 2\r\n\r\nok"


def _status_lines() -> None:
    refused = {
        "two-digits": b"HTTP/1.1 20 OK",
        "one-digit": b"HTTP/1.1 2 OK",
        "four-digits": b"HTTP/1.1 2000 OK",
        "smallint-wrap": b"HTTP/1.1 65736 OK",
        "negative-smallint": b"HTTP/1.1 40000 OK",
        "bigint": b"HTTP/1.1 9223372036854775808 X",
        "twenty-three-digits": b"HTTP/1.1 20000000000000000000000 X",
        "thousand-digits": b"HTTP/1.1 " + b"9" * 1000 + b" X",
        "zero": b"HTTP/1.1 000 X",
        "leading-zero": b"HTTP/1.1 020 X",
        "minus": b"HTTP/1.1 -200 X",
        "plus": b"HTTP/1.1 +200 X",
        "hex": b"HTTP/1.1 0xc8 X",
        "letters": b"HTTP/1.1 OK X",
        "none": b"HTTP/1.1",
        "split": b"HTTP/1.1 2 00 X",
        "arabic-digits": "HTTP/1.1 ٢٠٠ X".encode(),
        "superscript": b"HTTP/1.1 2\xb2\xb3 X",
    }
    for name, line in refused.items():
        STATUS.add(name, line + _OK, PROTOCOL)
    either = {
        "lower-case": b"http/1.1 200 ok",
        "no-space": b"HTTP/1.1 200OK",
        "two-spaces": b"HTTP/1.1  200 OK",
        "tab": b"HTTP/1.1\t200\tOK",
        "version-1.2": b"HTTP/1.2 200 OK",
        "version-9.9": b"HTTP/9.9 200 OK",
        "version-2": b"HTTP/2 200 OK",
        "version-0.9": b"HTTP/0.9 200 OK",
        "version-11": b"HTTP/11 200 OK",
        "icy": b"ICY 200 OK",
        "reason-controls": b"HTTP/1.1 200 \x1b[31m\x07",
        "reason-nul": b"HTTP/1.1 200 a\x00b",
        "reason-64k": b"HTTP/1.1 200 " + b"x" * 65536,
        "reason-1m": b"HTTP/1.1 200 " + b"x" * 2**20,
    }
    for name, line in either.items():
        STATUS.add(name, line + _OK, SUCCEEDED, PROTOCOL)
    STATUS.add("not-http", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", PROTOCOL)
    STATUS.add("html-only", b"<html><body>hello</body></html>", PROTOCOL)
    STATUS.add("binary", bytes(range(256)) * 40, PROTOCOL)
    STATUS.add("tls-alert", b"\x15\x03\x01\x00\x02\x02\x28", PROTOCOL)
    STATUS.add("nuls", bytes(100_000), PROTOCOL)
    STATUS.add("blank-lines", b"\r\n" * 50_000 + b"HTTP/1.1 200 OK" + _OK, SUCCEEDED, PROTOCOL)
    STATUS.add("informational-final", b"HTTP/1.1 199 X" + _OK, PROTOCOL, TIMEOUT)
    STATUS.add("switching-protocols", b"HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n", PROTOCOL, TIMEOUT)
    STATUS.add("unassigned-299", answer(status=b"299 X"), SUCCEEDED)
    STATUS.add("unassigned-399", answer(status=b"399 X"), SUCCEEDED)
    STATUS.add("unassigned-600", answer(status=b"600 X"), HTTP_STATUS, PROTOCOL)
    STATUS.add("unassigned-999", answer(status=b"999 X"), HTTP_STATUS, PROTOCOL)
    STATUS.add("not-modified-unasked", headed(status=b"304 X"), PROTOCOL)
    STATUS.add("no-content-with-body", answer(status=b"204 X", body=b"surprise"), SUCCEEDED)
    STATUS.add("reset-content-with-body", answer(status=b"205 X", body=b"surprise"), SUCCEEDED)
    STATUS.add("two-answers", answer() + answer(body=b"second"), SUCCEEDED)


def _fields() -> None:
    either = {
        "space-before-colon": b"Set-Cookie : a=1",
        "no-name": b": v",
        "no-colon": b"nonsense",
        "only-space": b" ",
        "name-with-space": b"X Y: 1",
        "name-with-nul": b"X\x00Y: 1",
        "name-not-ascii": "Größe: 1".encode(),
        "name-60k": b"X" * 60_000 + b": 1",
        "value-nul": b"X: a\x00b",
        "value-controls": b"X: \x01\x02\x1b[2J\x7f",
        "value-bare-cr": b"X: a\rY: b",
        "value-bare-lf": b"X: a\nY: b",
        "value-60k": b"X: " + b"v" * 60_000,
        "value-1m": b"X: " + b"v" * 2**20,
        "value-16m": b"X: " + b"v" * 2**24,
        "folded": b"X: a\r\n b\r\n\tc",
        "folded-first": b" X: a",
        "folded-10k": b"X: a" + b"\r\n b" * 10_000,
        "fields-100": b"\r\n".join(b"X-%d: 1" % number for number in range(100)),
        "fields-2k": b"\r\n".join(b"X-%d: 1" % number for number in range(2_000)),
        "fields-100k": b"\r\n".join(b"X-%d: 1" % number for number in range(100_000)),
        "same-field-50k": b"\r\n".join([b"X: 1"] * 50_000),
        "cookies-5k": b"\r\n".join(b"Set-Cookie: c%d=1" % number for number in range(5_000)),
        "empty-names": b"\r\n".join([b": "] * 1000),
    }
    for name, line in either.items():
        HEADS.add(name, answer(line), SUCCEEDED, PROTOCOL)
    fine = {
        "etag-env": b"ETag: env:DATABASE_URL",
        "etag-wiped": b'ETag: "\\x00wiped"',
        "etag-10k": b'ETag: "' + b"e" * 10_000 + b'"',
        "last-modified-env": b"Last-Modified: basic-env:HOME",
        "last-modified-year-0": b"Last-Modified: Mon, 01 Jan 0000 00:00:00 GMT",
        "content-type-odd": b'Content-Type: ;;;charset=;"',
        "content-type-10k": b"Content-Type: " + b"a" * 10_000,
        "charset-unknown": b"Content-Type: text/html; charset=x-user-defined",
        "charset-slow": b"Content-Type: text/html; charset=punycode",
        "charset-idna": b"Content-Type: text/html; charset=idna",
        "charset-traversal": b"Content-Type: text/html; charset=../../etc/passwd",
        "disposition-traversal": b'Content-Disposition: attachment; filename="../../etc/passwd"',
        "retry-after-on-200": b"Retry-After: 99999999999999999999",
        "markup": b"X: [bold red]x[/] {0} %s %(x)s ${HOME} `id`",
    }
    for name, line in fine.items():
        HEADS.add(name, answer(line), SUCCEEDED)
    HEADS.add("line-feeds-only", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", SUCCEEDED, PROTOCOL)
    HEADS.add("carriage-returns-only", b"HTTP/1.1 200 OK\rContent-Length: 2\r\rok", PROTOCOL)
    HEADS.add("ends-in-status-line", b"HTTP/1.1 200", PROTOCOL)
    HEADS.add("ends-in-field", b"HTTP/1.1 200 OK\r\nContent-Le", PROTOCOL)
    HEADS.add("ends-before-blank-line", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", PROTOCOL, SUCCEEDED)
    HEADS.add("not-http-but-long", b"x" * 2**20, PROTOCOL)


def _lengths() -> None:
    both = {"chunked-and-length": b"Transfer-Encoding: chunked\r\nContent-Length: 2"}
    for name, line in {
        "negative": b"Content-Length: -1",
        "plus": b"Content-Length: +2",
        "hex": b"Content-Length: 0x2",
        "words": b"Content-Length: two",
        "empty": b"Content-Length: ",
        "fraction": b"Content-Length: 2.0",
        "exponent": b"Content-Length: 2e0",
        "list-equal": b"Content-Length: 2, 2",
        "twice-equal": b"Content-Length: 2\r\nContent-Length: 2",
        "leading-zeros": b"Content-Length: 0000000000000000000000000000002",
        "superscript": b"Content-Length: \xb2",
        **both,
    }.items():
        LENGTHS.add(name, headed(line, body=b"ok"), SUCCEEDED, PROTOCOL)
    for name, line in {
        "list-differing": b"Content-Length: 2, 3",
        "twice-differing": b"Content-Length: 2\r\nContent-Length: 3",
        "too-short-body": b"Content-Length: 3",
    }.items():
        LENGTHS.add(name, headed(line, body=b"ok"), PROTOCOL)
    for name, digits in {
        "2-63": 2**63,
        "2-64": 2**64,
        "10-30": 10**30,
        "10-400": 10**400,
        "2-63-less-1": 2**63 - 1,
    }.items():
        LENGTHS.add(name, headed(b"Content-Length: %d" % digits, body=b"ok" * 5), PROTOCOL, TOO_LARGE)
    LENGTHS.add("over-max-body", headed(b"Content-Length: 1073741824", body=b"x" * 1000), TOO_LARGE)
    LENGTHS.add("shorter-than-body", headed(b"Content-Length: 1", body=b"ok" * 50_000), SUCCEEDED)


def _redirects() -> None:
    def to(location: bytes, status: bytes = b"302 Found") -> bytes:
        return answer(b"Location: " + location, status=status)

    for name, location in {
        "to-itself": b"",
        "empty": b"",
    }.items():
        REDIRECTED.add(name, to(location or b"?"), REDIRECTS, SUCCEEDED)
    for name, location in {
        "scheme-file": b"file:///etc/passwd",
        "scheme-gopher": b"gopher://127.0.0.1/",
        "scheme-javascript": b"javascript:alert(1)",
        "scheme-data": b"data:text/plain,x",
        "port-70000": b"http://127.0.0.1:70000/",
        "no-host": b"http:///",
        "bracket": b"http://[::1",
        "space-host": b"http://a b/",
    }.items():
        REDIRECTED.add(name, to(location), INVALID_URL, PROTOCOL)
    for name, location in {
        "metadata": b"http://169.254.169.254/latest/meta-data/",
        "private": b"http://10.0.0.1/",
        "unspecified": b"http://0.0.0.0/",
        "mapped": b"http://[::ffff:10.0.0.1]/",
        "decimal": b"http://167772161/",
    }.items():
        REDIRECTED.add(name, to(location), "blocked_address")
    REDIRECTED.add("location-60k", to(b"/x?" + b"a" * 60_000), REDIRECTS, INVALID_URL, PROTOCOL, SUCCEEDED)
    REDIRECTED.add("location-gbk", to("/中文".encode("gbk")), REDIRECTS, SUCCEEDED)
    REDIRECTED.add("location-shift-jis", to("/日本".encode("shift_jis")), REDIRECTS, SUCCEEDED)
    REDIRECTED.add("location-controls", to(b"/a\x01b"), INVALID_URL, REDIRECTS, PROTOCOL, SUCCEEDED)
    REDIRECTED.add(
        "two-locations", answer(b"Location: /1", b"Location: /2", status=b"302 X"), REDIRECTS, SUCCEEDED, PROTOCOL
    )
    REDIRECTED.add("body-broken", headed(b"Location: ?", b"Content-Length: 99", status=b"302 X"), REDIRECTS, PROTOCOL)
    REDIRECTED.add("not-modified-with-location", to(b"/x", b"304 X"), PROTOCOL, NOT_MODIFIED)


_status_lines()
_fields()
_lengths()
_redirects()
