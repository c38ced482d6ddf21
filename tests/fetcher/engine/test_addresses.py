"""Only public addresses are connected to, in whatever form an address is written or embedded."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetcher.engine.addresses import AddressPolicy, AllowedNetwork

PUBLIC_ONLY = AddressPolicy()


def allowing(*texts: str) -> AddressPolicy:
    return AddressPolicy(tuple(AllowedNetwork.parse(text) for text in texts))


def embeddings(text: str) -> list[str]:
    """Every documented way to write an IPv4 address inside an IPv6 one; a public partner where two are held."""
    number = int(ipaddress.IPv4Address(text))
    public = 0x08080808
    forms = [
        number,  # IPv4-compatible
        0xFFFF << 32 | number,  # IPv4-mapped
        0x64FF9B << 96 | number,  # NAT64
        0x2002 << 112 | number << 80 | 1,  # 6to4
        0x20010000 << 96 | number << 64 | (public ^ 0xFFFFFFFF),  # Teredo, as the server
        0x20010000 << 96 | public << 64 | (number ^ 0xFFFFFFFF),  # Teredo, as the client
        0x20010470 << 96 | 0x00005EFE << 32 | number,  # ISATAP, local identifier
        0x20010470 << 96 | 0x02005EFE << 32 | number,  # ISATAP, universal identifier
    ]
    return [str(ipaddress.IPv6Address(form)) for form in forms]


SPECIAL_V4 = {
    "0.0.0.0": "this network",
    "0.255.255.255": "this network",
    "10.0.0.0": "private",
    "10.255.255.255": "private",
    "100.64.0.1": "shared",
    "100.127.255.255": "shared",
    "100.100.100.200": "metadata",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "168.63.129.16": "metadata",
    "169.254.0.1": "link-local",
    "169.254.169.254": "metadata",
    "169.254.170.2": "metadata",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.8": "protocol",
    "192.0.0.192": "metadata",
    "192.0.2.1": "documentation",
    "192.88.99.1": "6to4 relay",
    "192.168.0.1": "private",
    "192.168.255.255": "private",
    "198.18.0.1": "benchmarking",
    "198.19.255.255": "benchmarking",
    "198.51.100.7": "documentation",
    "203.0.113.7": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast",
}
SPECIAL_V6 = {
    "::": "unspecified",
    "::1": "loopback",
    "::2": "this network",
    "::ffff:0:127.0.0.1": "reserved",
    "64:ff9b:1::1": "translation",
    "64:ff9b:1:a00:1::": "translation",
    "100::1": "discard",
    "100:0:0:1::1": "dummy",
    "2001:2::1": "benchmarking",
    "2001:5::1": "protocol",
    "2001:10::1": "ORCHID",
    "2001:20::1": "ORCHID",
    "2001:30::1": "drone",
    "2001:db8::1": "documentation",
    "3fff::1": "documentation",
    "4000::1": "reserved",
    "5f00::1": "segment",
    "fc00::1": "unique local",
    "fd12:3456::1": "unique local",
    "fd00:ec2::254": "metadata",
    "fd20:ce::254": "metadata",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "fe80::1%2": "link-local",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
    "ff0e::1": "multicast",
}
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.216.34", "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255",
    "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2001:4860:4860::8888", "2606:4700:4700::1111",
    "2a00:1450::1", "2001:470:1:18::119", "3ffe::1", "2620:0:2d0:200::7", "2001:200::1", "2001:3::1", "2001:4:112::1",
]  # fmt: skip


@pytest.mark.parametrize(("address", "reason"), [*SPECIAL_V4.items(), *SPECIAL_V6.items()])
def test_a_special_address_is_refused_with_its_reason(address: str, reason: str) -> None:
    refusal = PUBLIC_ONLY.judge(address, 80)
    assert refusal is not None
    assert reason in refusal
    assert refusal.startswith(address)
    assert "--allow-network" in refusal


@pytest.mark.parametrize("address", [form for address in SPECIAL_V4 for form in embeddings(address)])
def test_no_embedding_of_a_special_address_gets_through(address: str) -> None:
    assert PUBLIC_ONLY.judge(address, 80) is not None


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    assert PUBLIC_ONLY.judge(address, 80) is None
    assert PUBLIC_ONLY.judge(ipaddress.ip_address(address), 443) is None


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_refused_if_and_only_if_its_embeddings_are(address: ipaddress.IPv4Address) -> None:
    refused = PUBLIC_ONLY.judge(address, 80) is not None
    for form in embeddings(str(address)):
        # The two lowest compatible forms are addresses of their own, refused either way.
        assert (PUBLIC_ONLY.judge(form, 80) is not None) == refused


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_allowed(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        assert PUBLIC_ONLY.judge(address, 80) is not None


@given(st.text(max_size=30))
def test_what_is_no_address_is_refused(text: str) -> None:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        assert "is not an IP address" in (PUBLIC_ONLY.judge(text, 80) or "")


@pytest.mark.parametrize(
    ("allowed", "address", "port"),
    [
        ("127.0.0.1", "127.0.0.1", 80),
        ("127.0.0.1:8000", "127.0.0.1", 8000),
        ("127.0.0.0/8", "::ffff:127.0.0.1", 80),
        ("127.0.0.1:8000", "::ffff:127.0.0.1", 8000),
        ("10.0.0.0/8", "10.200.0.1", 443),
        ("10.0.0.0/8:443", "10.200.0.1", 443),
        ("::1", "::1", 80),
        ("[::1]:8000", "::1", 8000),
        ("fd00::/8", "fd12::1", 80),
        ("fe80::/10", "fe80::1%eth0", 80),
        ("2002:7f00:1::/128", "2002:7f00:1::", 80),
    ],
)
def test_an_allowed_network_is_connected_to(allowed: str, address: str, port: int) -> None:
    assert allowing("192.0.2.0/24", allowed).judge(address, port) is None


@pytest.mark.parametrize(
    ("allowed", "address", "port"),
    [
        ("127.0.0.1", "127.0.0.2", 80),
        ("127.0.0.1:8000", "127.0.0.1", 8001),
        ("127.0.0.1:8000", "::ffff:127.0.0.1", 8001),
        ("127.0.0.0/8", "::1", 80),
        ("127.0.0.0/8", "2002:7f00:1::", 80),
        ("10.0.0.0/8", "64:ff9b::a00:1", 80),
        ("10.0.0.0/8", "192.168.0.1", 80),
        ("::1", "127.0.0.1", 80),
    ],
)
def test_an_allowed_network_allows_nothing_else(allowed: str, address: str, port: int) -> None:
    assert allowing(allowed).judge(address, port) is not None


def test_the_text_names_the_option_that_would_allow_it() -> None:
    assert PUBLIC_ONLY.judge("127.0.0.1", 80) == (
        "127.0.0.1 is a loopback address; allow it with --allow-network 127.0.0.1/32"
    )
    assert PUBLIC_ONLY.judge("::ffff:10.0.0.1", 80) == (
        "::ffff:10.0.0.1 holds 10.0.0.1, a private address (RFC 1918); allow it with --allow-network 10.0.0.1/32"
    )


@given(st.ip_addresses(), st.integers(1, 65535))
def test_the_option_that_the_text_names_does_allow_it(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    refusal = PUBLIC_ONLY.judge(address, port)
    if refusal is not None:
        assert allowing(refusal.rpartition(" ")[2]).judge(address, port) is None


def test_a_policy_is_a_value() -> None:
    assert allowing("10.0.0.0/8") == allowing("10.0.0.0/8")
    assert len({allowing("10.0.0.0/8"), allowing("10.0.0.0/8"), PUBLIC_ONLY}) == 2


@pytest.mark.parametrize(
    ("text", "network", "port"),
    [
        ("10.0.0.0/8", "10.0.0.0/8", None),
        ("10.0.0.0/8:443", "10.0.0.0/8", 443),
        ("127.0.0.1", "127.0.0.1/32", None),
        (" 127.0.0.1:8000 ", "127.0.0.1/32", 8000),
        ("127.0.0.1/32:1", "127.0.0.1/32", 1),
        ("fd00::/8", "fd00::/8", None),
        ("[fd00::/8]:65535", "fd00::/8", 65535),
        ("::1", "::1/128", None),
        ("[::1]", "::1/128", None),
        ("[::1]:8000", "::1/128", 8000),
    ],
)
def test_a_network_is_read(text: str, network: str, port: int | None) -> None:
    assert AllowedNetwork.parse(text) == AllowedNetwork(ipaddress.ip_network(network), port)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("10.0.0.1/8", "write the network itself, 10.0.0.0/8"),
        ("2001:db8::1/32", "write the network itself, 2001:db8::/32"),
        ("10.0.0.1/8:80", "write the network itself, 10.0.0.0/8"),
        ("localhost", "is not a network; write an address or a network such as"),
        ("", "is not a network"),
        ("10.0.0.0/33", "is not a network"),
        ("[127.0.0.1]:80", "brackets"),
        ("[::1", "is not a network"),
        ("[::1]8000", "is not a network"),
        ("127.0.0.1:0", "a port is a number from 1 to 65535"),
        ("127.0.0.1:65536", "a port is a number from 1 to 65535"),
        ("127.0.0.1:", "a port is a number from 1 to 65535"),
        ("[::1]:http", "a port is a number from 1 to 65535"),
        ("fe80::1%eth0", "zone"),
    ],
)
def test_what_is_no_network_is_refused_with_what_would_be_right(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        AllowedNetwork.parse(text)


@given(st.ip_addresses(), st.integers(0, 32), st.none() | st.integers(1, 65535))
def test_writing_and_reading_a_network_is_a_round_trip(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, prefix: int, port: int | None
) -> None:
    network = AllowedNetwork(ipaddress.ip_network(f"{address}/{prefix}", strict=False), port)
    assert AllowedNetwork.parse(str(network)) == network
