"""Origins: which texts name the same one, and which name none."""

import pytest

from queue_run.settings.origins import InvalidOrigin, parse


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://example.com", "https://example.com"),
        ("HTTPS://Example.COM", "https://example.com"),
        ("https://example.com:443", "https://example.com"),
        ("https://example.com:0443", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("http://example.com:443", "http://example.com:443"),
        ("https://example.com:80", "https://example.com:80"),
        ("wss://example.com:443", "https://example.com"),
        ("ws://example.com", "http://example.com"),
        ("https://example.com/", "https://example.com"),
        ("https://example.com.", "https://example.com"),
        ("https://example.com.:8443", "https://example.com:8443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://my_host", "http://my_host"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://BÜCHER.example", "https://xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://bu\u0308cher.example", "https://xn--bcher-kva.example"),
        ("https://straße.example", "https://xn--strae-oqa.example"),
        ("https://例え。テスト", "https://xn--r8jz45g.xn--zckzah"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
        ("http://[2001:DB8::1]", "http://[2001:db8::1]"),
        # Of applications that are no pages of the web.
        ("capacitor://localhost", "capacitor://localhost"),
        ("ionic://localhost", "ionic://localhost"),
        ("tauri://localhost", "tauri://localhost"),
        ("app://-", "app://-"),
        ("file://", "file://"),
        ("file:///", "file://"),
        ("null", "null"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("moz-extension://0A1B-2C", "moz-extension://0a1b-2c"),
        ("vscode-webview://x:80", "vscode-webview://x:80"),
    ],
)
def test_an_origin_has_one_form(text: str, origin: str) -> None:
    assert str(parse(text)) == origin
    assert parse(origin) == parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://*.example.com", "cannot be *"),
        ("*://example.com", "no path, query or white space"),
        ("https://ann@example.com", "no user"),
        ("https://ann:hush@example.com", "no user"),
        ("https://example.com/app", "no path"),
        ("https://example.com//", "no path"),
        ("https://example.com?a=1", "no path"),
        ("https://example.com#a", "no path"),
        ("https://a.example https://b.example", "white space"),
        ("https://example.com:0", "from 1 to 65535"),
        ("https://example.com:65536", "from 1 to 65535"),
        ("https://example.com:99999999999", "malformed"),
        ("https://example.com:", "malformed"),
        ("https://example.com:http", "malformed"),
        ("https://example.com:-1", "malformed"),
        ("example.com", "begins with a scheme"),
        ("//example.com", "begins with a scheme"),
        ("https:example.com", "begins with a scheme"),
        ("", "begins with a scheme"),
        ("https://", "malformed"),
        ("https://.", "malformed"),
        ("https://a..example", "malformed"),
        ("https://exa mple.com", "white space"),
        ("https://exa%20mple.com", "malformed"),
        ("http://127.1", "four numbers"),
        ("http://1.2.3", "four numbers"),
        ("http://2130706433", "four numbers"),
        ("http://0x7f.0.0.1.", "four numbers"),
        ("http://127.0.0.0x1", "four numbers"),
        ("http://1.2.3.256", "four numbers"),
        ("http://010.0.0.1", "four numbers"),
        ("https://exam\u00adple.com", "malformed"),
        ("https://exam\u200bple.com", "malformed"),
        ("data://a", "no origin of its own"),
        ("about://blank", "no origin of its own"),
        ("JavaScript://a", "no origin of its own"),
        ("http://[::1", "malformed"),
        ("http://::1", "malformed"),
        ("http://[::g]", "malformed"),
        ("http://[1.2.3.4]", "malformed"),
        ("http://[]", "malformed"),
        ("http://" + "a" * 64, "malformed"),
        ("http://" + "a." * 127 + "a", "too long"),
        ("capacitor://", "has a host"),
    ],
)
def test_what_can_be_the_origin_of_no_page_is_none(text: str, words: str) -> None:
    with pytest.raises(InvalidOrigin, match=r".") as caught:
        parse(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://example.com", "example.com"),
        ("https://example.com", "example.com:443"),
        ("https://example.com:443", "example.com"),
        ("http://example.com", "example.com:80"),
        ("http://example.com:80", "EXAMPLE.com."),
        ("wss://example.com", "example.com:443"),
        ("ws://example.com", "example.com"),
        ("https://example.com:8443", "example.com:8443"),
        ("https://bücher.example", "xn--bcher-kva.example"),
        ("http://[::1]:8000", "[0::1]:8000"),
    ],
)
def test_a_page_is_of_the_host_that_it_came_from(origin: str, host: str) -> None:
    assert parse(origin).is_of(host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://example.com", "example.com:80"),
        ("http://example.com", "example.com:443"),
        ("https://example.com", "example.com:8443"),
        ("https://example.com:8443", "example.com"),
        ("https://example.com", "www.example.com"),
        ("https://example.com", "ann@example.com"),
        ("https://example.com", "example.com/"),
        ("https://example.com", ""),
        ("https://example.com", "[::1"),
        ("capacitor://localhost", "localhost"),
        ("file://", ""),
        ("null", "null"),
        ("null", ""),
    ],
)
def test_and_of_no_other(origin: str, host: str) -> None:
    assert not parse(origin).is_of(host)
