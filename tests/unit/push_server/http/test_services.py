"""What handlers share; the answers of whole requests are in the tests of the handlers."""

import asyncio
import time

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from push_server.http.services import Refused, Services
from queue_run.contracts.envelopes import Admitted, Authenticate, Authenticated, Refusal
from queue_run.contracts.ids import ConnectionId
from tests.unit.push_server.building import INDEX, SERVER, PushServerParts, services
from tests.waiting import DEADLINE, eventually_async

CONNECTION = ConnectionId("s1-7")


def request(uri: str = "/chat", **headers: str) -> HTTPServerRequest:
    found = HTTPHeaders({"Host": "shop.example"})
    for name, value in headers.items():
        found.add(name.replace("_", "-"), value)
    made = HTTPServerRequest(start_line=RequestStartLine("GET", uri, "HTTP/1.1"), headers=found)
    made.remote_ip = "10.0.0.1"
    return made


def made(**settings: object) -> tuple[PushServerParts, Services]:
    parts = PushServerParts(INDEX, **settings)  # type: ignore[arg-type]
    return parts, services(parts)


async def question(parts: PushServerParts) -> Authenticate:
    """What a worker is asked."""
    await eventually_async(lambda: parts.dispatcher.work, what="the question")
    found = parts.dispatcher.work.pop()
    assert isinstance(found, Authenticate)
    return found


def test_a_request_without_an_origin_passes() -> None:
    made()[1].check_origin(request())


@pytest.mark.parametrize("origin", ["https://shop.example", "https://friend.example"])
def test_a_request_of_an_allowed_page_passes(origin: str) -> None:
    made(allowed_origins="https://friend.example")[1].check_origin(request(Origin=origin))


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ""])
def test_a_request_of_another_page_is_refused(origin: str) -> None:
    with pytest.raises(Refused, match="403 origin not allowed"):
        made()[1].check_origin(request(Origin=origin))


async def test_a_worker_is_asked_with_all_that_the_request_has() -> None:
    parts, here = made(trusted_proxies="10.0.0.0/8")
    asking = asyncio.create_task(
        here.authenticate(
            request("/_/queues/mail?a=1", Cookie="s=1", X_Forwarded_For="192.0.2.9"), CONNECTION
        )
    )
    found = await question(parts)
    assert (found.id, found.server) == ("s1-7-0", SERVER)
    assert (found.path, found.query, found.remote_ip) == ("/_/queues/mail", "a=1", "192.0.2.9")
    assert ("Cookie", "s=1") in found.headers
    assert found.message is None
    assert time.time() < found.expires <= time.time() + here.settings.authenticate_timeout
    answer = Authenticated(request=found.id, status=200, user=b'{"id":"ann"}')
    parts.forwarder.authenticated(answer)
    assert await asyncio.wait_for(asking, DEADLINE) == Admitted(b'{"id":"ann"}', None)


@pytest.mark.parametrize(
    ("sent", "given"),
    [
        ("grüße 🎉".encode(), "grüße 🎉"),
        (b"gr\xfc\xdfe", "grüße"),
        (b"\xff\xc3\xbc", "ÿÃ¼"),
        (b"plain", "plain"),
    ],
)
async def test_header_values_are_utf8_where_they_can_be(sent: bytes, given: str) -> None:
    parts, here = made()
    # As Tornado gives the bytes.
    asked = request("/chat", X_Name=sent.decode("latin-1"))
    asking = asyncio.create_task(here.authenticate(asked, CONNECTION))
    found = await question(parts)
    assert ("X-Name", given) in found.headers
    parts.forwarder.authenticated(Authenticated(request=found.id, status=200))
    await asyncio.wait_for(asking, DEADLINE)


async def test_a_first_message_goes_along() -> None:
    parts, here = made()
    asking = asyncio.create_task(here.authenticate(request(), CONNECTION, "the token"))
    found = await question(parts)
    assert found.message is not None
    assert found.message.data == "the token"
    parts.forwarder.authenticated(Authenticated(request=found.id, status=401))
    assert await asyncio.wait_for(asking, DEADLINE) == Refusal(401, "")


@pytest.mark.parametrize("user", [b'{"name":"x"}', b'"ann"', b'{"id":null}', b"{"])
async def test_a_user_that_cannot_be_used_is_a_failure(
    user: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    parts, here = made()
    asking = asyncio.create_task(here.authenticate(request(), CONNECTION))
    found = await question(parts)
    parts.forwarder.authenticated(Authenticated(request=found.id, status=200, user=user))
    assert await asyncio.wait_for(asking, DEADLINE) == Refusal(500, "internal error")
    assert "on_authenticate gave no usable user" in caplog.text


async def test_without_an_answer_in_time_the_client_is_refused() -> None:
    parts, here = made(authenticate_timeout=0.05)
    await parts.application.refresh()
    with pytest.raises(Refused, match="503 no worker answered in time"):
        await here.authenticate(request(), CONNECTION)
