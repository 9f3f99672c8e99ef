"""Handshakes and requests that no browser makes, against a real push server and worker: whatever a
header holds, the answer is no 500, and no process tells of a defect."""

import asyncio
import itertools
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from tests.clients import connected
from tests.conftest import new_namespace, write_files
from tests.processes import RedisServer, Stack
from tests.waiting import DEADLINE

#: Looks at everything that a client may have put into its handshake.
APP = {
    "sockets/_middleware.py": """
from queue_run import Refuse


async def on_authenticate(request):
    if "reason" in request.query:
        raise Refuse(403, request.query["reason"])
    facts = {
        "cookies": request.cookies,
        "origin": request.origin,
        "token": request.bearer_token,
        "basic": request.basic_auth,
        "address": request.remote_ip,
        "query": request.query,
        "path": request.path,
        "headers": request.headers,
    }
    return {"id": request.query.get("user", "ann"), "facts": repr(facts)}
""",
    "sockets/index.py": """
from queue_run import ClientError


async def handler(data, user):
    if data == "fail":
        raise LookupError(user["id"])
    if data == "refuse":
        raise ClientError(user["id"])
    return user["facts"]
""",
    "queues/mail.py": "from queue_run import Config\nconfig = Config(http='user')\n"
    "def handler(job): pass\n",
}

WEIRD = [
    *(
        b"",
        b" ",
        b"\t",
        b",",
        b";",
        b"=",
        b":",
        b"%",
        b"%00",
        b"\xff",
        b"\xc3\x28",
        b"\xed\xa0\x80",
    ),
    *(b"http://[::1", b"http://[::1]:x", b"//", b"://", b"http://", b"null", b"*", b"http:///"),
    *(b"http://a@b", b"http://\xff", b"http://a:99999999", b"capacitor://", b"[", b"]", b"[::1"),
    *(b"1.2.3.4:x", b"[::1]:443", b"::ffff:1.2.3.4", b"1.2.3.4, , ,", b"999.1.1.1", b"fe80::1%a"),
    *(b"Bearer", b"Bearer ", b"Bearer \xff\xfe", b"Basic !!!", b"Basic gICA", b"bearer a b c"),
    *(b"a=b; c", b'a="\xff"; b="', b"=x", b"a" * 4000, b'"' * 500, b"\\" * 500, b"<script>"),
    *(b"\x1b[31m", b"${jndi:ldap://x}", b"{{7*7}}", b"' or 1=1 --", b"%s%d%n", b"\xe2\x80\xae"),
]
NAMES = [
    *(b"Origin", b"Host", b"X-Forwarded-For", b"Authorization", b"Cookie", b"Upgrade"),
    *(b"Connection", b"Sec-WebSocket-Key", b"Sec-WebSocket-Version", b"Sec-WebSocket-Protocol"),
    *(b"Sec-WebSocket-Extensions", b"Content-Length", b"Content-Type", b"Transfer-Encoding"),
    *(b"Expect", b"X-Any"),
]
GOOD = {
    b"Host": b"example.com",
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version": b"13",
}
#: Beyond each header with each value: lines that are none, and paths.
HEADS = [
    *(b"GET / HTTP/1.1\r\n: x\r\n\r\n", b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", b"\x00\r\n\r\n"),
    *(
        b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ),
    *(b"GET / HTTP/1.1\r\nA: b\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
    *(b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *(
        b"%b %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % each
        for each in itertools.product(
            (b"GET", b"POST", b"HEAD"),
            (
                *(
                    b"/%ff",
                    b"/%",
                    b"/%00",
                    b"//",
                    b"/../../etc/passwd",
                    b"*",
                    b"http://a/",
                    b"/\xff",
                ),
                *(b"/_/queues/%ff", b"/_/queues/%00", b"/_/queues/..", b"/_/queues/a%0ab", b"/_/"),
                *(b"/?%ff=%fe", b"/?" + b"&" * 5000, b"/?a=%ED%A0%80", b"/_/queues/mail?%ff"),
            ),
        )
    ),
]


@pytest.fixture(scope="module")
def site(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    app = write_files(tmp_path_factory.mktemp("hostile") / "app", APP)
    public = write_files(app.parent / "public", {"index.html": "<p>the page"})
    stack = Stack(
        redis_server.url,
        app,
        new_namespace(),
        QUEUE_RUN_API_KEYS="a-key-of-a-program",
        QUEUE_RUN_TRUSTED_PROXIES="127.0.0.1",
        QUEUE_RUN_ALLOWED_ORIGINS="https://friend.example",
        QUEUE_RUN_PUBLIC_DIR=str(public),
    )
    stack.push_server()
    stack.worker("-P", "solo", queues="sockets")
    stack.wait_until_ready()
    yield stack
    print(stack.logs())  # noqa: T201
    stack.end()


def handshakes() -> Iterator[bytes]:
    for name, value in itertools.product(NAMES, WEIRD):
        headers = {**GOOD, name: value}
        lines = b"".join(b"%b: %b\r\n" % each for each in headers.items())
        yield b"GET / HTTP/1.1\r\n%b\r\n" % lines


async def status(site: Stack, request: bytes) -> int | None:
    """The status of the answer; None when the server hangs up without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(site.url).port)
    try:
        writer.write(request)
        async with asyncio.timeout(DEADLINE):
            line = await reader.readline()
    except ConnectionError:
        return None
    finally:
        writer.close()
    return int(line.split()[1]) if line else None


async def statuses(site: Stack, requests: list[bytes]) -> dict[bytes, int | None]:
    some = asyncio.Semaphore(50)

    async def one(request: bytes) -> int | None:
        async with some:
            return await status(site, request)

    answers = await asyncio.gather(*map(one, requests))
    return dict(zip(requests, answers, strict=True))


async def test_whatever_a_handshake_holds_it_is_no_defect(site: Stack) -> None:
    requests = [*handshakes(), *HEADS]
    assert len(requests) > 700
    answers = await statuses(site, requests)
    wrong = {each: code for each, code in answers.items() if code is not None and code >= 500}
    assert wrong == {}
    # The good ones among them were let in.
    assert sum(code == 101 for code in answers.values()) > 100
    for process in (*site.push_servers, *site.workers):
        assert "Traceback" not in process.output
        assert " ERROR " not in process.output
        assert "\x1b" not in process.output


@pytest.mark.parametrize(
    "origin", [b"http://[::1", b"http://[::1]:x", b"http://a@example.com", b"\xff", b"evil", b""]
)
async def test_an_origin_that_is_malformed_is_refused(site: Stack, origin: bytes) -> None:
    lines = b"".join(b"%b: %b\r\n" % each for each in {**GOOD, b"Origin": origin}.items())
    assert await status(site, b"GET / HTTP/1.1\r\n%b\r\n" % lines) == 403
    push = b"POST /_/queues/mail HTTP/1.1\r\nHost: x\r\nOrigin: %b\r\nContent-Length: 0\r\n\r\n"
    assert await status(site, push % origin) == 403


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/chat", "/_/queues/mail"])
async def test_a_head_that_is_too_large_is_told_so_on_every_path(site: Stack, path: str) -> None:
    line = f"GET {path}".encode()
    headers = b" HTTP/1.1\r\nHost: x\r\nCookie: " + b"c" * 20_000 + b"\r\n\r\n"
    assert await status(site, line + headers) == 431
    assert await status(site, line + b"?" + b"q" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n") == 431


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("shop.example", "https://shop.example:443"),
        ("shop.example:443", "https://shop.example"),
        ("shop.example:80", "http://shop.example"),
        ("any.example", "https://friend.example:443"),
    ],
)
async def test_the_port_of_a_scheme_makes_no_other_origin(
    site: Stack, host: str, origin: str
) -> None:
    headers = {**GOOD, b"Host": host.encode(), b"Origin": origin.encode()}
    lines = b"".join(b"%b: %b\r\n" % each for each in headers.items())
    assert await status(site, b"GET / HTTP/1.1\r\n%b\r\n" % lines) == 101


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.5:5678", "203.0.113.5"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("[::ffff:203.0.113.5]:1", "203.0.113.5"),
    ],
)
async def test_a_forwarded_address_may_have_a_port(
    site: Stack, forwarded: str, address: str
) -> None:
    headers = {"X-Forwarded-For": forwarded}
    async with connected(site.ws("/"), additional_headers=headers) as client:
        assert f"'address': '{address}'" in await client.ask("hi")


#: What would be lines of their own, or would turn those before and behind them around.
FORGED = "x\n2026-01-01 00:00:00,000 ERROR forged: yes\r\x1b[2J\u202e\u2028\x85\x00"


async def test_no_client_can_forge_a_log_line(site: Stack) -> None:
    forged = quote(FORGED)
    async with connected(site.ws(f"/?user={forged}")) as client:
        for message in ("fail", "refuse"):
            assert "error" in await client.ask(message)
        await client.connection.send(b"\xff", text=True)
        assert (await client.closed())[0] == 1007
    with pytest.raises(InvalidStatus):
        await connect(site.ws(f"/?reason={forged}"))
    site.workers[0].wait_for_output("refused with 403 x")
    await status(site, f"GET /a%0ab/{forged} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    for process in (*site.push_servers, *site.workers):
        output = process.output
        assert "\n2026-01-01" not in output
        # Line ends are the only characters in it that are not shown.
        assert all(line.isprintable() for line in output.split("\n"))


async def test_nonsense_floods_neither_the_log_nor_its_sender(site: Stack) -> None:
    server = site.push_servers[0]
    size = len(server.output)
    protocols = [Subprotocol("queue-run.v1")]
    async with connected(site.ws("/"), subprotocols=protocols) as client:
        await client.receive()
        for number in range(150):
            await client.send(f'{{"id": {number}, "{"x" * 60_000}": 1}}')
            error = await client.receive()
            assert error["id"] == number
            assert len(error["error"]) < 300
    for _ in range(100):
        assert await status(site, b"GET /" + b"p" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n") == 404
        assert await status(site, b"GET / HTTP/1.1\r\nX\r\n\r\n") == 400
    assert 0 < len(server.output) - size < 20_000
