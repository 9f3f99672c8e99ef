"""Pushing by HTTP, on a real server and with real clients; the test speaks for the workers."""

import asyncio
import contextlib
import gc
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tornado import web
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from push_server.http.push_handler import DISCARDED, PushHandler, ReservedHandler
from push_server.http.pushes import Places
from queue_run.contracts.envelopes import Authenticate, Authenticated
from queue_run.contracts.manifest import QueueFacts
from queue_run.errors import DispatchUnavailable, JobStoreUnavailable
from tests.unit.push_server.building import INDEX, SERVER, PushServerParts, services
from tests.waiting import DEADLINE, eventually_async

KEY = "the-key-of-a-program"
LIMITED = "a-key-for-mail-alone"
AS_PROGRAM = {"Authorization": f"Bearer {KEY}"}
JSON = {"Content-Type": "application/json"}
QUEUES = {
    "mail": QueueFacts(http="user"),
    "mail.welcome": QueueFacts(),
    "orders": QueueFacts(fifo=True),
    "future": QueueFacts(http="members"),
}


class Site:
    """A push server's HTTP side on a port of its own."""

    def __init__(self, parts: PushServerParts) -> None:
        self.parts = parts
        self.services = services(parts)
        self._server = HTTPServer(
            web.Application(
                [
                    ("/_/queues/([^/]+)", PushHandler, {"services": self.services}),
                    ("/_/.*", ReservedHandler),
                ]
            ),
            max_body_size=1024,
        )
        sockets = bind_sockets(0, "127.0.0.1")
        self._server.add_sockets(sockets)
        self.port = sockets[0].getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"

    @property
    def jobs(self) -> list[Any]:
        return self.parts.pusher.jobs

    async def push(
        self,
        path: str = "/_/queues/mail",
        body: str | bytes = "{}",
        *,
        method: str = "POST",
        **headers: str,
    ) -> HTTPResponse:
        """A request of a program, unless it says who it is."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {**AS_PROGRAM, **JSON, **given}
        return await AsyncHTTPClient().fetch(
            f"http://{self.host}{path}",
            method=method,
            headers=sent,
            body=body if method not in ("GET", "HEAD", "OPTIONS", "DELETE") else None,
            raise_error=False,
            request_timeout=DEADLINE,
        )

    async def raw(self, request: bytes) -> bytes:
        """The answer to bytes, up to the end of the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        async with asyncio.timeout(DEADLINE):
            writer.write(request)
            answer = await reader.read()
        writer.close()
        return answer

    async def end(self) -> None:
        self._server.stop()
        await self._server.close_all_connections()
        self.parts.pusher.broker_there.set()
        self.parts.pushes.close(DEADLINE)


NewSite = Callable[..., "contextlib.AbstractAsyncContextManager[Site]"]


@pytest.fixture
def site() -> NewSite:
    @contextlib.asynccontextmanager
    async def make(*, known: bool = True, **options: Any) -> AsyncIterator[Site]:
        parts = PushServerParts(
            INDEX, queues=QUEUES, **{"api_keys": f"{KEY}, {LIMITED}:mail+none", **options}
        )
        if known:
            await parts.application.refresh()
        made = Site(parts)
        try:
            yield made
        finally:
            await made.end()

    return make


def said(response: HTTPResponse) -> tuple[int, str]:
    """Status and error text."""
    return response.code, json.loads(response.body)["error"]


async def asked(site: Site) -> Authenticate:
    """The next question to the workers."""
    work = site.parts.dispatcher.work
    await eventually_async(lambda: work, what="a question to the workers")
    question = work.pop(0)
    assert isinstance(question, Authenticate)
    return question


async def push_as(
    site: Site, path: str = "/_/queues/mail", body: str = "{}", **answer: Any
) -> HTTPResponse:
    """A push of a client about whom workers say this."""
    pushing = asyncio.create_task(site.push(path, body, Authorization="Bearer of-ann"))
    question = await asked(site)
    site.parts.forwarder.authenticated(Authenticated(request=question.id, **answer))
    return await pushing


# What becomes a job


async def test_a_push_is_accepted_with_the_id_of_its_job(site: NewSite) -> None:
    async with site() as here:
        response = await here.push(body='{"to": "ann"}')
        [job] = here.jobs
        assert response.code == 202
        assert response.headers["X-Job-Id"] == job.id
        assert json.loads(response.body) == {"job": job.id}
        assert (job.queue, job.payload) == ("mail", {"to": "ann"})
        assert (job.facts.user, job.facts.params, job.facts.group) == (None, {}, None)
        assert job.facts.queued_at > 0


@pytest.mark.parametrize(
    ("content_type", "body", "payload"),
    [
        ("application/json", "[1]", [1]),
        ("application/x-www-form-urlencoded", "a=1&a=2", {"a": "2"}),
        ("text/plain", "hello", "hello"),
    ],
)
async def test_the_body_is_the_payload(
    site: NewSite, content_type: str, body: str, payload: Any
) -> None:
    async with site() as here:
        assert (await here.push(body=body, Content_Type=content_type)).code == 202
        assert [job.payload for job in here.jobs] == [payload]


async def test_without_a_body_the_payload_is_null(site: NewSite) -> None:
    async with site() as here:
        head = f"POST /_/queues/mail HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        assert b" 202 " in await here.raw(f"{head}Connection: close\r\n\r\n".encode())
        assert [job.payload for job in here.jobs] == [None]


async def test_the_query_becomes_the_params(site: NewSite) -> None:
    async with site() as here:
        await here.push("/_/queues/mail?a=1&a=2&b=%C3%BC&c=")
        assert here.jobs[0].facts.params == {"a": "2", "b": "ü", "c": ""}


async def test_a_queue_in_a_folder_is_named_with_a_dot(site: NewSite) -> None:
    async with site() as here:
        assert (await here.push("/_/queues/mail.welcome")).code == 202
        assert here.jobs[0].queue == "mail.welcome"


async def test_group_and_dedupe_are_taken_out_of_the_query(site: NewSite) -> None:
    async with site() as here:
        here.parts.pusher.answer = "first"
        response = await here.push("/_/queues/orders?group=7&dedupe=x&source=shop")
        [job] = here.jobs
        assert (job.facts.group, here.parts.pusher.dedupes) == ("7", ["x"])
        assert job.facts.params == {"source": "shop"}
        assert (response.headers["X-Job-Id"], response.code) == ("first", 202)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/_/queues/orders", "orders is a FIFO queue: say which group keeps its order"),
        ("/_/queues/orders?dedupe=x", "orders is a FIFO queue: say which group keeps its order"),
        ("/_/queues/mail?group=x", "mail is no FIFO queue, and has no groups"),
        ("/_/queues/mail?dedupe=x", "mail: dedupe is for FIFO queues only"),
        ("/_/queues/orders?group=", "group and dedupe are not empty"),
        ("/_/queues/orders?group=1&dedupe=", "group and dedupe are not empty"),
    ],
)
async def test_a_group_must_fit_the_queue(site: NewSite, path: str, text: str) -> None:
    async with site() as here:
        status, error = said(await here.push(path))
        assert status == 400
        assert error.startswith(text)
        assert here.jobs == []


async def test_a_body_that_is_no_payload_is_refused(site: NewSite) -> None:
    async with site() as here:
        status, error = said(await here.push(body="{"))
        assert (status, error.partition(":")[0]) == (400, "the body is not JSON")
        response = await here.push(body="x", Content_Type="image/png")
        assert said(response)[0] == 415
        assert here.jobs == []


async def test_a_compressed_body_is_refused(site: NewSite) -> None:
    async with site() as here:
        assert said(await here.push(body=b"\x1f\x8b", Content_Encoding="gzip"))[0] == 415


# How large


@pytest.mark.parametrize("beyond", [1, 1_000_000])
async def test_a_body_beyond_the_limit_is_too_large(site: NewSite, beyond: int) -> None:
    async with site(max_request_bytes=2048) as here:
        assert (await here.push(body="[" + " " * 2046 + "]")).code == 202
        response = await here.push(body="[" + " " * (2046 + beyond) + "]")
        assert said(response) == (413, "the body has more than 2,048 bytes")
        assert len(here.jobs) == 1


async def test_a_body_of_unknown_length_beyond_the_limit_is_too_large(site: NewSite) -> None:
    head = f"POST /_/queues/mail HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    head += "Content-Type: text/plain\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with site(max_request_bytes=1024) as here:
        chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
        assert b" 202 " in await here.raw(head.encode() + chunk + b"0\r\n\r\n")
        answer = await here.raw(head.encode() + 3 * chunk + b"0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert [job.payload for job in here.jobs] == ["x" * 1024]


async def test_a_body_that_nobody_would_read_is_refused_at_once(site: NewSite) -> None:
    head = f"POST /_/queues/mail HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    async with site() as here:
        answer = await here.raw(f"{head}Content-Length: {DISCARDED + 1}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 413 ")
        # Such a client waits for leave to send.
        expecting = f"{head}Content-Length: 99999\r\nExpect: 100-continue\r\n\r\n"
        assert (await here.raw(expecting.encode())).startswith(b"HTTP/1.1 413 ")


async def test_after_a_refusal_the_connection_can_be_used_again(site: NewSite) -> None:
    def request(path: str, *more: str) -> bytes:
        lines = (f"POST {path} HTTP/1.1", "Host: x", "Content-Length: 2", *more)
        lines += (f"Authorization: Bearer {KEY}", "Content-Type: text/plain", "", "hi")
        return "\r\n".join(lines).encode()

    async with site() as here:
        both = request("/_/queues/none") + request("/_/queues/mail", "Connection: close")
        answer = await here.raw(both)
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"HTTP/1.1 202 " in answer
        assert [job.payload for job in here.jobs] == ["hi"]


@pytest.mark.parametrize("length", ["x", "-1", "9" * 5000])
async def test_a_length_that_is_none_is_refused(site: NewSite, length: str) -> None:
    head = f"POST /_/queues/mail HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    async with site() as here:
        answer = await here.raw(f"{head}Content-Length: {length}\r\n\r\n".encode())
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))
        assert here.jobs == []


# Where to


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods_are_refused_with_the_one_that_is_not(
    site: NewSite, method: str
) -> None:
    async with site() as here:
        response = await here.push(method=method)
        assert (response.code, response.headers["Allow"]) == (405, "POST")
        if method != "HEAD":
            assert said(response) == (405, "jobs are pushed here with POST")


async def test_an_unheard_of_method_is_refused_the_same(site: NewSite) -> None:
    async with site() as here:
        answer = await here.raw(b"BREW /_/queues/mail HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert b"Allow: POST\r\n" in answer


async def test_a_queue_that_no_worker_offers_is_not_found(site: NewSite) -> None:
    async with site() as here:
        response = await here.push("/_/queues/mial")
        assert said(response) == (404, "no worker offers a queue 'mial'")


async def test_before_any_worker_has_started_there_is_no_queue(site: NewSite) -> None:
    async with site(known=False) as here:
        expected = (404, "no worker offers a queue 'mail'")
        assert said(await here.push()) == expected
        assert said(await here.push(Authorization="")) == expected


async def test_while_no_worker_lives_programs_may_push(site: NewSite) -> None:
    async with site() as here:
        await here.parts.lose_workers()
        assert (await here.push()).code == 202


@pytest.mark.parametrize("path", ["/_/", "/_/queues", "/_/queues/", "/_/queues/mail/", "/_/x"])
async def test_the_rest_of_the_prefix_is_reserved(site: NewSite, path: str) -> None:
    async with site() as here:
        assert said(await here.push(path)) == (404, "there is nothing here")


# Who may


async def test_a_stranger_is_told_how_to_say_who_it_is(site: NewSite) -> None:
    async with site() as here:
        response = await here.push(Authorization="")
        status, text = said(response)
        assert (status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert text.startswith("say who you are: an API key or a user's token")
        assert said(await here.push(Authorization="Bearer wrong"))[0] == 401
        assert here.jobs == []


async def test_a_stranger_does_not_learn_which_queues_there_are(site: NewSite) -> None:
    async with site() as here:
        assert said(await here.push("/_/queues/mial", Authorization=""))[0] == 401


async def test_for_an_api_key_no_worker_is_asked(site: NewSite) -> None:
    async with site(authenticates=True) as here:
        assert (await here.push()).code == 202
        assert here.parts.dispatcher.work == []
        assert here.jobs[0].facts.user is None


async def test_a_worker_says_whose_job_it_is(site: NewSite) -> None:
    async with site(authenticates=True) as here:
        pushing = asyncio.create_task(
            here.push("/_/queues/mail?a=1", Authorization="Bearer of-ann", Cookie="s=1")
        )
        question = await asked(here)
        assert (question.path, question.query, question.server) == ("/_/queues/mail", "a=1", SERVER)
        headers = {name.lower(): value for name, value in question.headers}
        assert (headers["authorization"], headers["cookie"]) == ("Bearer of-ann", "s=1")
        user = b'{"id":"ann","name":"Ann"}'
        here.parts.forwarder.authenticated(
            Authenticated(request=question.id, status=200, user=user)
        )
        assert (await pushing).code == 202
        assert here.jobs[0].facts.user == {"id": "ann", "name": "Ann"}


ANN: dict[str, Any] = {"status": 200, "user": b'{"id":"ann"}'}


async def test_a_user_may_push_to_a_queue_that_says_so(site: NewSite) -> None:
    async with site(authenticates=True) as here:
        assert (await push_as(here, **ANN)).code == 202


@pytest.mark.parametrize("queue", ["mail.welcome", "orders", "orders?group=1", "future"])
@pytest.mark.parametrize("body", ["{}", "no JSON"])
async def test_a_user_may_push_to_no_other(site: NewSite, queue: str, body: str) -> None:
    async with site(authenticates=True) as here:
        response = await push_as(here, f"/_/queues/{queue}", body, **ANN)
        name = queue.partition("?")[0]
        status, text = said(response)
        assert status == 403
        assert text.startswith(f"users may not push to a queue {name!r}: ")
        assert 'Config(http="user")' in text
        assert here.jobs == []


async def test_a_user_does_not_learn_which_queues_there_are(site: NewSite) -> None:
    async with site(authenticates=True) as here:
        there = said(await push_as(here, "/_/queues/orders", **ANN))
        nowhere = said(await push_as(here, "/_/queues/ordres", **ANN))
        assert (nowhere[0], nowhere[1].replace("ordres", "orders")) == there


async def test_a_manifest_of_an_older_release_lets_no_user_push(site: NewSite) -> None:
    async with site(authenticates=True) as here:
        here.parts.redis.manifest = b'{"authenticates": true, "queues": {"mail": {"fifo": false}}}'
        await here.parts.application.refresh()
        assert said(await push_as(here, **ANN))[0] == 403
        assert (await here.push()).code == 202


async def test_a_limited_key_pushes_to_its_queues_alone(site: NewSite) -> None:
    as_limited = {"Authorization": f"Bearer {LIMITED}"}
    async with site(authenticates=True) as here:
        assert (await here.push(**as_limited)).code == 202
        for name in ("orders", "mail.welcome", "nowhere"):
            refused = said(await here.push(f"/_/queues/{name}", **as_limited))
            assert refused == (403, f"this API key may not push to a queue {name!r}")
        missing = said(await here.push("/_/queues/none", **as_limited))
        assert missing == (404, "no worker offers a queue 'none'")
        assert [job.queue for job in here.jobs] == ["mail"]
        # A key that is refused is not tried as a user's token.
        assert here.parts.dispatcher.work == []


@pytest.mark.parametrize("status", [200, 100])
async def test_an_anonymous_client_and_one_without_its_token_may_not_push(
    site: NewSite, status: int
) -> None:
    async with site(authenticates=True) as here:
        response = await push_as(here, status=status)
        assert said(response)[0] == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert here.jobs == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"status": 401, "reason": "expired"}, (401, "expired")),
        ({"status": 403}, (403, "not authorized")),
        ({"status": 499, "reason": "go away"}, (499, "go away")),
        ({"status": 500, "reason": "internal error"}, (500, "internal error")),
        ({"status": 200, "user": b'{"name":"x"}'}, (500, "internal error")),
    ],
)
async def test_a_refusal_gives_its_status(
    site: NewSite, answer: dict[str, Any], expected: tuple[int, str]
) -> None:
    async with site(authenticates=True) as here:
        response = await push_as(here, **answer)
        assert said(response) == expected
        assert ("WWW-Authenticate" in response.headers) == (expected[0] == 401)
        assert here.jobs == []


async def test_when_no_worker_answers_the_client_may_try_again(site: NewSite) -> None:
    async with site(authenticates=True, authenticate_timeout=0.05) as here:
        response = await here.push(Authorization="Bearer x")
        assert said(response) == (503, "no worker answered in time")
        assert response.headers["Retry-After"] == "1"


async def test_when_no_worker_lives_users_are_asked_to_wait(site: NewSite) -> None:
    async with site(authenticates=True) as here:
        await here.parts.lose_workers()
        assert said(await here.push(Authorization="Bearer x")) == (503, "no worker is there")
        assert here.parts.dispatcher.work == []


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
async def test_a_page_of_another_origin_is_refused(site: NewSite, origin: str) -> None:
    async with site(authenticates=True) as here:
        response = await here.push(Authorization="Bearer of-ann", Origin=origin)
        assert said(response) == (403, "origin not allowed")
        assert here.parts.dispatcher.work == []


async def test_a_page_of_an_allowed_origin_may_push(site: NewSite) -> None:
    async with site(allowed_origins="https://friend.example") as here:
        assert (await here.push(Origin=f"http://{here.host}")).code == 202
        assert (await here.push(Origin="https://friend.example")).code == 202


# When it is too much, or too late


@pytest.mark.parametrize(
    "failure", [DispatchUnavailable("at 10.1.2.3"), JobStoreUnavailable("at 10.1.2.3")]
)
async def test_when_the_broker_takes_no_job_the_client_may_try_again(
    site: NewSite, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with site() as here:
        here.parts.pusher.failure = failure
        response = await here.push()
        assert said(response) == (503, "the job was not taken in time")
        assert response.headers["Retry-After"] == "1"
        assert "at 10.1.2.3" in caplog.text


async def test_a_full_redis_is_named_and_the_log_says_it_once(
    site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    async with site() as here:
        here.parts.pusher.failure = DispatchUnavailable(
            "the broker took no job: OOM command not allowed when used memory > 'maxmemory'."
        )
        for _ in range(3):
            response = await here.push()
            assert said(response) == (503, "the job was not taken: Redis is full")
            assert response.headers["Retry-After"] == "1"
        here.parts.pusher.failure = None
        assert (await here.push()).code == 202
    lines = [line.partition(":")[0] for line in caplog.messages if "Redis" in line]
    assert lines == ["Redis is full", "Redis has room again"]


async def test_a_broker_that_never_answers_is_no_reason_to_wait_for_ever(site: NewSite) -> None:
    async with site(publish_timeout=0.05) as here:
        here.parts.pusher.broker_there.clear()
        assert said(await here.push()) == (503, "the job was not taken in time")


async def test_a_failure_says_nothing_of_itself(
    site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    async with site() as here:
        here.parts.pusher.failure = LookupError("a defect")
        assert said(await here.push("/_/queues/mail?q=hush")) == (500, "Internal Server Error")
    [record] = [each for each in caplog.records if each.name.startswith("push_server")]
    assert record.getMessage() == "/_/queues/mail failed"
    assert "a defect" in caplog.text


async def test_too_many_pushes_at_once_are_refused(site: NewSite) -> None:
    async with site() as here:
        here.parts.pushes._line = Places(1)
        here.parts.pusher.broker_there.clear()
        first = asyncio.create_task(here.push())
        await eventually_async(lambda: here.parts.pushes._line._free == 0, what="the first")
        response = await here.push()
        assert said(response) == (503, "too many pushes at once")
        assert response.headers["Retry-After"] == "1"
        here.parts.pusher.broker_there.set()
        assert (await first).code == 202
        assert (await here.push()).code == 202


async def test_a_user_pushes_no_faster_than_over_one_connection(site: NewSite) -> None:
    bob: dict[str, Any] = {"status": 200, "user": b'{"id":"bob"}'}
    async with site(authenticates=True, max_message_rate=0.01) as here:
        assert (await push_as(here, **ANN)).code == 202
        response = await push_as(here, **ANN)
        assert said(response) == (429, "too many pushes of this user: slow down")
        assert response.headers["Retry-After"] == "1"
        # What is refused is no push, others are others, and programs are trusted.
        assert said(await push_as(here, "/_/queues/orders", **bob))[0] == 403
        assert (await push_as(here, **bob)).code == 202
        assert [(await here.push()).code for _ in range(5)] == [202] * 5
        assert len(here.jobs) == 7


async def test_an_address_has_workers_asked_so_often(site: NewSite) -> None:
    async with site(authenticates=True, max_address_handshakes=0.01) as here:
        assert (await push_as(here, **ANN)).code == 202
        response = await here.push(Authorization="Bearer of-ann")
        assert said(response) == (429, "too many handshakes from this address: slow down")
        assert (await here.push()).code == 202


async def test_too_many_questions_at_once_keep_no_program_from_pushing(site: NewSite) -> None:
    async with site(authenticates=True) as here:
        here.parts.pushes.questions = Places(1)
        first = asyncio.create_task(here.push(Authorization="Bearer of-ann"))
        question = await asked(here)
        response = await here.push(Authorization="Bearer of-bob")
        assert said(response) == (503, "too many pushes at once")
        assert (await here.push()).code == 202
        here.parts.forwarder.authenticated(
            Authenticated(request=question.id, status=200, user=b'{"id":"ann"}')
        )
        assert (await first).code == 202


async def test_during_shutdown_nothing_new_is_taken(site: NewSite) -> None:
    async with site() as here:
        here.services.closing = True
        response = await here.push()
        assert said(response) == (503, "the server is shutting down")
        assert response.headers["Retry-After"] == "1"


async def test_a_push_is_under_way_until_it_is_answered(site: NewSite) -> None:
    async with site() as here:
        here.parts.pusher.broker_there.clear()
        pushing = asyncio.create_task(here.push())
        await eventually_async(lambda: here.parts.pushes._requests, what="the request")
        draining = asyncio.create_task(here.parts.pushes.wind_down(DEADLINE))
        here.parts.pusher.broker_there.set()
        assert (await pushing).code == 202
        await asyncio.wait_for(draining, DEADLINE)


@pytest.mark.parametrize(("path", "status"), [("/_/queues/mail", 202), ("/_/queues/none", 404)])
async def test_of_a_push_nothing_is_left_to_the_garbage_collector(
    site: NewSite, path: str, status: int
) -> None:
    def left() -> int:
        return sum(isinstance(each, PushHandler) for each in gc.get_objects())

    async with site() as here:
        gc.collect()
        gc.disable()
        try:
            before = left()
            assert (await here.push(path)).code == status
            await eventually_async(lambda: left() <= before, what="the handler to go")
        finally:
            gc.enable()


async def test_a_client_that_leaves_is_not_waited_for(site: NewSite) -> None:
    async with site() as here:
        _, writer = await asyncio.open_connection("127.0.0.1", here.port)
        head = f"POST /_/queues/mail HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        writer.write(f"{head}Content-Length: 99\r\n\r\nhalf".encode())
        pushes = here.parts.pushes
        await eventually_async(lambda: pushes._requests == 1, what="the request")
        writer.close()
        await eventually_async(lambda: pushes._requests == 0, what="its end")
        assert here.jobs == []


# The log


async def test_a_push_is_logged_without_its_query(
    site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    async with site() as here:
        with caplog.at_level(logging.DEBUG, logger="push_server"):
            response = await here.push("/_/queues/mail?token=hush")
            await here.push("/_/queues/none?token=hush")
        lines = [each.getMessage() for each in caplog.records if each.name.startswith("push_serv")]
        job_id = response.headers["X-Job-Id"]
        assert lines == [
            f"mail[{job_id}] pushed for user None",
            "/_/queues/none from 127.0.0.1: 404 no worker offers a queue 'none'",
        ]
