"""Origins, proxies and API keys."""

import pytest

from push_server.http.admission import ApiKeys, Hosts, Origins, Proxies

HOST = "shop.example:8000"


@pytest.mark.parametrize("origin", ["http://shop.example:8000", "https://SHOP.example:8000"])
def test_the_servers_own_pages_are_admitted(origin: str) -> None:
    assert Origins("").admits(origin, HOST)
    assert Origins("https://example.com").admits(origin, HOST)


@pytest.mark.parametrize(
    "origin", ["http://shop.example", "http://shop.example:1", "http://evil.example", "null", ""]
)
def test_pages_from_elsewhere_are_not(origin: str) -> None:
    assert not Origins("").admits(origin, HOST)


def test_without_a_host_an_origin_without_one_is_not_the_same() -> None:
    assert not Origins("").admits("null", "")


@pytest.mark.parametrize("origin", ["https://example.com", "HTTPS://Example.Com", "http://a:3000"])
def test_listed_origins_are_admitted_in_whatever_case(origin: str) -> None:
    assert Origins("https://EXAMPLE.com/, http://a:3000").admits(origin, HOST)


@pytest.mark.parametrize(
    "origin",
    ["http://example.com", "https://example.com:444", "https://example.com.evil", "http://a"],
)
def test_what_only_looks_like_a_listed_origin_is_not(origin: str) -> None:
    assert not Origins("https://example.com, http://a:3000").admits(origin, HOST)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://shop.example", "shop.example:443"),
        ("https://shop.example:443", "shop.example"),
        ("http://shop.example", "shop.example:80"),
        ("https://friend.example:443", HOST),
        ("https://friend.example.", HOST),
        ("https://xn--bcher-kva.example", HOST),
        ("capacitor://localhost", HOST),
        ("null", HOST),
    ],
)
def test_an_origin_is_the_same_however_it_is_written(origin: str, host: str) -> None:
    listed = "https://friend.example, https://Bücher.example:443, capacitor://localhost, null"
    assert Origins(listed).admits(origin, host)


@pytest.mark.parametrize(
    "origin", ["http://[::1", "http://[::1]:x", "https://a@shop.example:8000", "\xff", "a b", "*"]
)
def test_an_origin_that_is_malformed_is_nobodys(origin: str) -> None:
    assert not Origins("https://example.com").admits(origin, HOST)
    assert not Origins("").admits(origin, "[::1")


@pytest.mark.parametrize("origin", ["https://any.example", "null"])
def test_a_star_admits_every_page(origin: str) -> None:
    assert Origins("*").admits(origin, HOST)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1:8000", "127.8.9.1", "[::1]:80"),
        *("[0:0::1]", "shop.example", "www.shop.example", "app.localhost:1"),
    ],
)
def test_a_server_is_called_by_its_names(host: str) -> None:
    hosts = Hosts("localhost, .localhost, 127.0.0.0/8, [::1], shop.example, .shop.example")
    assert hosts.admits(host)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "evillocalhost", "128.0.0.1", "[::2]", ""),
        *("127.0.0.1.evil.example", "[::1", "xshop.example", "localhost@evil.example"),
        *("2130706433", "127.0.0.1:x"),
    ],
)
def test_and_by_no_other(host: str) -> None:
    assert not Hosts("localhost, 127.0.0.0/8, ::1, .shop.example").admits(host)


@pytest.mark.parametrize("names", ["", "*", "localhost,*"])
def test_a_server_without_names_is_called_by_any(names: str) -> None:
    assert Hosts(names).admits("evil.example")


PROXY, INNER, CLIENT = "192.0.2.7", "10.0.0.1", "203.0.113.5"


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        (PROXY, [], PROXY),
        (PROXY, [""], PROXY),
        (PROXY, [CLIENT], CLIENT),
        (PROXY, [f" {CLIENT} "], CLIENT),
        # What the client claimed itself stands in front of what the proxy has added.
        (PROXY, ["198.51.100.1", CLIENT], CLIENT),
        (PROXY, ["198.51.100.1", CLIENT, INNER], CLIENT),
        (PROXY, [INNER, "10.0.0.2"], INNER),
        # Nobody whose word counts has written it.
        (CLIENT, ["198.51.100.1"], CLIENT),
        ("not an address", [CLIENT], "not an address"),
        (PROXY, ["198.51.100.1", "unknown"], PROXY),
        (PROXY, ["unknown", CLIENT], CLIENT),
        # With a port, as some proxies write it; IPv6 in brackets or without; mapped IPv4.
        (PROXY, [f"{CLIENT}:5678"], CLIENT),
        (PROXY, ["198.51.100.1:1", f"{CLIENT}:5678", f"{INNER}:80"], CLIENT),
        (PROXY, ["[2001:db8::7]:443"], "2001:db8::7"),
        (PROXY, ["[2001:db8::7]"], "2001:db8::7"),
        (PROXY, ["2001:DB8:0::7"], "2001:db8::7"),
        (PROXY, [f"::ffff:{CLIENT}"], CLIENT),
        (PROXY, [f"[::ffff:{CLIENT}]:9", f"::ffff:{INNER}"], CLIENT),
        (f"::ffff:{PROXY}", [CLIENT], CLIENT),
        (PROXY, [f"{CLIENT}:"], PROXY),
        (PROXY, [f"{CLIENT}:x"], PROXY),
        (PROXY, ["[2001:db8::7"], PROXY),
        (PROXY, ["[203.0.113.5]:9"], CLIENT),
        (PROXY, ["fe80::1%evil"], "fe80::1"),
        (PROXY, ["203.0.113.5.6"], PROXY),
        (PROXY, ["\xff"], PROXY),
    ],
)
def test_trusted_proxies_are_believed_about_their_own_peers(
    peer: str, forwarded_for: list[str], address: str
) -> None:
    proxies = Proxies("192.0.2.7, 10.0.0.0/8")
    assert proxies.client_address(peer, forwarded_for) == address


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert Proxies("").client_address(PROXY, [CLIENT]) == PROXY


def test_an_address_of_ipv4_is_not_shown_in_its_form_for_ipv6() -> None:
    assert Proxies("").client_address(f"::ffff:{CLIENT}", []) == CLIENT


def test_a_network_may_be_given_in_its_form_for_ipv6() -> None:
    assert Proxies("::ffff:10.0.0.0/104").client_address(INNER, [CLIENT]) == CLIENT


def test_networks_may_be_of_either_version() -> None:
    proxies = Proxies("2001:db8::/32, 10.0.0.1/8")
    assert proxies.client_address("2001:db8::1", ["2001:db8:0:1::2", CLIENT]) == CLIENT
    assert proxies.client_address("10.9.9.9", ["2001:db9::1"]) == "2001:db9::1"


# API keys

FIRST, SECOND = "first-key-of-a-program", "second-key-of-mail"


@pytest.mark.parametrize(
    "header", [f"Bearer {FIRST}", f"bearer {FIRST}", f"BEARER  {FIRST} ", f"Bearer {SECOND}"]
)
def test_each_key_is_found(header: str) -> None:
    found = ApiKeys(f"{FIRST}, {SECOND}:mail").find(header)
    assert found is not None
    assert found.key in header


def test_a_key_knows_its_queues() -> None:
    keys = ApiKeys(f"{FIRST}, {SECOND}:mail")
    first, second = keys.find(f"Bearer {FIRST}"), keys.find(f"Bearer {SECOND}")
    assert first is not None
    assert second is not None
    assert first.may_push_to("report")
    assert second.may_push_to("mail")
    assert not second.may_push_to("report")


@pytest.mark.parametrize(
    "header",
    [
        *("", "Bearer", "Bearer ", FIRST, f"Basic {FIRST}", f"Bearer {FIRST[:-1]}"),
        *(f"Bearer {FIRST}2", f"Bearer {FIRST.upper()}", f"Bearer {FIRST}, {SECOND}"),
        *("Bearer \xff", f"Bearer {SECOND}:mail", "Bearer mail"),
    ],
)
def test_anything_else_is_not(header: str) -> None:
    assert ApiKeys(f"{FIRST}, {SECOND}:mail").find(header) is None


@pytest.mark.parametrize("keys", ["", " , ,"])
@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer  "])
def test_without_keys_nobody_is_admitted(keys: str, header: str) -> None:
    assert ApiKeys(keys).find(header) is None


def test_a_key_may_have_any_letters() -> None:
    # Tornado gives the bytes of a header as Latin-1.
    key = "ein-schlüssel-mit-umlaut"
    assert ApiKeys(key).find("Bearer " + key.encode().decode("latin-1")) is not None
