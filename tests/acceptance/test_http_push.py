"""Pushing jobs by HTTP, on real processes."""

import asyncio
import contextlib
import json
import signal
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from tests.clients import connected
from tests.conftest import NewStack, WriteApp, new_namespace, write_files
from tests.processes import RedisServer, Stack
from tests.waiting import DEADLINE, eventually, eventually_async

KEY = "a-key-of-a-program"
LIMITED = "a-key-for-two-queues"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

#: Jobs leave what they were given in Redis.
APP = {
    "sockets/_middleware.py": """
from queue_run import AskToken, Refuse


async def on_authenticate(request):
    token = request.bearer_token or request.cookies.get("token")
    if token == "ask":
        raise AskToken
    if token == "banned":
        raise Refuse(403, "you are banned")
    if token and token.startswith("of-"):
        return {"id": token.removeprefix("of-"), "path": request.path}
    return None
""",
    "sockets/index.py": "async def handler(data):\n    return data\n",
    "records.py": """
import json
import os

import redis

client = redis.Redis.from_url(os.environ["REDIS_URL"])


def keep(**facts):
    client.rpush(os.environ["QUEUE_RUN_NAMESPACE"] + ":record", json.dumps(facts))
""",
    "queues/record.py": """
from queue_run import Config
from records import keep

config = Config(http="user")


def handler(job, *, job_id, user, params):
    keep(job=job, job_id=job_id, user=user, params=params)
""",
    "queues/tell.py": """
from queue_run import Config, socket

config = Config(http="user")


async def handler(job, *, job_id, user):
    await socket.send({"job": job_id, "payload": job, "user": user})
""",
    "queues/orders.py": """
from queue_run import Config
from records import keep

config = Config(fifo=True)


def handler(job, *, job_id, group_id, sequence_number):
    keep(job=job, job_id=job_id, group=group_id)
""",
}


@dataclass
class Answer:
    status: int
    headers: Any
    body: Any

    @property
    def job(self) -> str:
        assert self.status == 202, self
        assert self.headers["X-Job-Id"] == self.body["job"]
        return str(self.body["job"])

    @property
    def error(self) -> tuple[int, str]:
        return self.status, self.body["error"]


def push(
    url: str,
    path: str,
    body: Any = None,
    *,
    kind: str | None = JSON,
    token: str | None = KEY,
    method: str = "POST",
    **headers: str,
) -> Answer:
    """A request to push; `body` is sent as it is when it is bytes, else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/_/queues/{path}", data=data, method=method)
    # urllib says it is a form, where nothing else is said.
    request.add_header("Content-Type", kind or "")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    for name, value in headers.items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE) as response:
            return Answer(response.status, response.headers, json.load(response))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, json.load(error))


def records(client: "redis.Redis", stack: Stack) -> list[dict[str, Any]]:
    return [json.loads(each) for each in client.lrange(f"{stack.namespace}:record", 0, -1)]


def record_of(client: "redis.Redis", stack: Stack, job_id: str) -> dict[str, Any]:
    """What a job was given, once it has run."""

    def found() -> list[dict[str, Any]]:
        return [each for each in records(client, stack) if each["job_id"] == job_id]

    [record] = eventually(found, what=f"the job {job_id}")
    return record


@pytest.fixture(scope="module")
def site(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A push server with keys and files, and a worker for each Celery queue."""
    app = write_files(tmp_path_factory.mktemp("http") / "app", APP)
    public = write_files(
        app.parent / "public", {"index.html": "<p>the page", "_/queues/record": "a file"}
    )
    stack = Stack(
        redis_server.url,
        app,
        new_namespace(),
        QUEUE_RUN_API_KEYS=f"another-key-of-one, {KEY}, {LIMITED}:record+orders",
        QUEUE_RUN_ALLOWED_ORIGINS="https://friend.example",
        QUEUE_RUN_PUBLIC_DIR=str(public),
        QUEUE_RUN_LOG_LEVEL="DEBUG",
    )
    stack.push_server()
    stack.worker("-P", "solo", queues="sockets")
    stack.worker("-P", "threads", "-c", "4", queues="jobs")
    stack.wait_until_ready()
    # Both workers have announced themselves.
    eventually(lambda: push(stack.url, "record", "ready").status == 202, what="the queues")
    yield stack
    print(stack.logs())  # noqa: T201
    stack.end()


@pytest.fixture
def client(redis_server: RedisServer) -> "redis.Redis":
    return redis_server.client()


# What becomes a job


@pytest.mark.parametrize(
    ("kind", "body", "payload"),
    [
        (JSON, b'{"to": "ann", "n": [1, 2.5, null]}', {"to": "ann", "n": [1, 2.5, None]}),
        (JSON, '"grüße"'.encode(), "grüße"),
        (FORM, b"to=ann&text=two+words&to=bob", {"to": "bob", "text": "two words"}),
        ("text/plain; charset=utf-8", "grüße".encode(), "grüße"),
        ("", b"", None),
        (
            "multipart/form-data; boundary=xx",
            b'--xx\r\nContent-Disposition: form-data; name="to"\r\n\r\nann\r\n--xx--\r\n',
            {"to": "ann"},
        ),
    ],
)
def test_the_body_is_what_the_job_gets(
    site: Stack, client: "redis.Redis", kind: str, body: bytes, payload: Any
) -> None:
    job_id = push(site.url, "record", body, kind=kind).job
    assert record_of(client, site, job_id)["job"] == payload


def test_the_query_is_what_the_job_gets_as_params(site: Stack, client: "redis.Redis") -> None:
    job_id = push(site.url, "record?source=shop&n=1&n=2&city=M%C3%BCnchen").job
    record = record_of(client, site, job_id)
    assert record["params"] == {"source": "shop", "n": "2", "city": "München"}


@pytest.mark.parametrize("kind", ["datetime", "bytes", "nonsense"])
def test_what_looks_like_a_mark_of_celerys_json_arrives_as_it_is(
    site: Stack, client: "redis.Redis", kind: str
) -> None:
    mark = {"__type__": kind, "__value__": "2"}
    # Read as a mark it would end the worker, or be a job that no worker can read.
    payload = {"a": [mark], "b": {"__type__": mark, "__value__": [mark]}}
    job_id = push(site.url, f"record?__type__={kind}&__value__=2", payload).job
    record = record_of(client, site, job_id)
    assert (record["job"], record["params"]) == (payload, mark)


@pytest.mark.parametrize("path", ["record", "orders?group=deep"])
def test_the_deepest_json_that_is_taken_reaches_the_job(
    site: Stack, client: "redis.Redis", path: str
) -> None:
    # With a number that msgpack has no form for.
    body = b"[" * 100 + b"1" + b"0" * 4000 + b"]" * 100
    job_id = push(site.url, path, body).job
    assert record_of(client, site, job_id)["job"] == json.loads(body)


# Whose job it is


def test_a_job_of_a_program_is_nobodys(site: Stack, client: "redis.Redis") -> None:
    for key in (KEY, "another-key-of-one"):
        job_id = push(site.url, "record", token=key).job
        assert record_of(client, site, job_id)["user"] is None


@pytest.mark.parametrize("way", ["header", "cookie"])
async def test_what_a_users_job_sends_reaches_the_user(site: Stack, way: str) -> None:
    user = f"ann-{way}"
    token = f"of-{user}"
    who: dict[str, Any] = {"token": token} if way == "header" else {"Cookie": f"token={token}"}
    async with connected(site.ws("/"), additional_headers={"Cookie": f"token=of-{user}"}) as device:
        # An answer: from now on messages reach it.
        assert await device.ask("hello") == "hello"
        answer = await asyncio.to_thread(push, site.url, "tell", {"n": 1}, **{"token": None, **who})
        assert await device.receive() == {
            "job": answer.job,
            "payload": {"n": 1},
            "user": {"id": user, "path": "/_/queues/tell"},
        }


def test_a_token_and_the_query_are_in_no_log(site: Stack) -> None:
    job_id = push(site.url, "record?secret=hush-hush", token="of-quiet-ann").job
    log = site.push_servers[0]
    log.wait_for_output(f"record[{job_id}] pushed for user quiet-ann")
    for secret in ("hush-hush", "of-quiet-ann", KEY):
        assert secret not in log.output


# FIFO queues


def test_jobs_of_a_group_run_in_the_order_of_their_pushes(
    site: Stack, client: "redis.Redis"
) -> None:
    for number in range(20):
        assert push(site.url, "orders?group=ordered", number).job

    def done() -> list[int]:
        found = [each["job"] for each in records(client, site) if each.get("group") == "ordered"]
        return found if len(found) == 20 else []

    assert eventually(done, what="the jobs of the group") == list(range(20))


def test_a_push_that_repeats_another_gives_the_first_ones_id(
    site: Stack, client: "redis.Redis"
) -> None:
    path = "orders?group=deduped"
    first = push(site.url, f"{path}&dedupe=a", "first").job
    assert push(site.url, f"{path}&dedupe=a", "second").job == first
    # Without an id, payloads are compared.
    third = push(site.url, path, "third").job
    assert push(site.url, path, "third").job == third
    last = push(site.url, f"{path}&dedupe=b", "first").job
    assert len({first, third, last}) == 3
    record_of(client, site, last)
    found = [each["job"] for each in records(client, site) if each.get("group") == "deduped"]
    assert found == ["first", "third", "first"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("orders", 'orders is a FIFO queue: say which group keeps its order, queues.get("orders")'),
        ("record?group=1", "record is no FIFO queue, and has no groups: "),
        ("record?dedupe=1", "record: dedupe is for FIFO queues only, with a group"),
        ("orders?group=", "group and dedupe are not empty where they are given"),
    ],
)
def test_a_group_must_fit_the_queue(site: Stack, path: str, text: str) -> None:
    status, error = push(site.url, path).error
    assert status == 400
    assert error.startswith(text)


# What is refused


@pytest.mark.parametrize(
    ("kind", "body", "status", "text"),
    [
        (JSON, b"{", 400, "the body is not JSON"),
        (JSON, b"", 400, "the body is not JSON"),
        (JSON, b"[" * 5000 + b"]" * 5000, 400, "the JSON is nested more than 100 levels deep"),
        (JSON, b"1" * 5000, 400, "the body is not JSON"),
        (FORM, b"a=%ff", 400, "the form is not in UTF-8"),
        ("text/plain", b"\xff", 400, "the text is not in UTF-8"),
        ("multipart/form-data", b"x", 400, "the form is malformed"),
        ("text/plain; charset=latin-1", b"x", 415, "the charset 'latin-1' is not taken"),
        ("application/pdf", b"%PDF", 415, "the content type 'application/pdf' is not taken"),
        ("", b"{}", 415, "a body needs a Content-Type: send application/json"),
        (
            "multipart/form-data; boundary=xx",
            b'--xx\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n\r\n--xx--\r\n',
            415,
            "files are not taken",
        ),
    ],
)
def test_a_body_that_is_no_payload_is_refused(
    site: Stack, kind: str, body: bytes, status: int, text: str
) -> None:
    found, error = push(site.url, "record", body, kind=kind).error
    assert found == status
    assert error.startswith(text)


@pytest.mark.parametrize("size", [65_537, 2_000_000])
def test_a_body_beyond_the_limit_is_refused(site: Stack, size: int) -> None:
    answer = push(site.url, "record", b"x" * size, kind="text/plain")
    assert answer.error == (413, "the body has more than 65,536 bytes")


def test_a_body_of_just_the_limit_is_taken(site: Stack, client: "redis.Redis") -> None:
    job_id = push(site.url, "record", b"x" * 65_536, kind="text/plain").job
    assert record_of(client, site, job_id)["job"] == "x" * 65_536


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_another_method_is_refused(site: Stack, method: str) -> None:
    answer = push(site.url, "record", method=method)
    assert answer.error == (405, "jobs are pushed here with POST")
    assert answer.headers["Allow"] == "POST"


def test_a_queue_that_no_worker_offers_is_not_found(site: Stack) -> None:
    answer = push(site.url, "rekord")
    assert answer.error == (404, "no worker offers a queue 'rekord'")


def test_a_user_may_push_only_where_a_queues_file_says_so(
    site: Stack, client: "redis.Redis"
) -> None:
    job_id = push(site.url, "record", token="of-ann").job
    assert record_of(client, site, job_id)["user"]["id"] == "ann"
    for path in ("orders?group=1", "orders", "rekord"):
        status, error = push(site.url, path, token="of-ann").error
        assert status == 403
        assert error.startswith(f"users may not push to a queue {path.partition('?')[0]!r}: ")


def test_a_limited_key_pushes_to_its_queues_alone(site: Stack) -> None:
    assert push(site.url, "record", token=LIMITED).job
    assert push(site.url, "orders?group=limited", token=LIMITED).job
    for path in ("tell", "rekord"):
        answer = push(site.url, path, token=LIMITED)
        assert answer.error == (403, f"this API key may not push to a queue {path!r}")


@pytest.mark.parametrize("token", [None, "nobody", "ask", KEY[:-1], f"{KEY}x"])
def test_who_is_nobody_may_not_push(site: Stack, token: str | None) -> None:
    answer = push(site.url, "record", token=token)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.body["error"].startswith("say who you are")


def test_a_refusal_of_the_application_gives_its_status(site: Stack) -> None:
    assert push(site.url, "record", token="banned").error == (403, "you are banned")


def test_a_page_of_another_origin_cannot_push_with_its_visitors_cookie(site: Stack) -> None:
    def visit(origin: str) -> Answer:
        headers = {"Cookie": "token=of-ann", "Origin": origin}
        return push(site.url, "record", b"a=1", kind=FORM, token=None, **headers)

    for evil in ("https://evil.example", "null", f"{site.url}.evil.example"):
        assert visit(evil).error == (403, "origin not allowed")
    assert visit("https://friend.example").job
    assert visit(site.url).job


# Beside the rest of the server


def test_the_prefix_belongs_to_the_server_and_everything_else_stays(site: Stack) -> None:
    server = site.push_servers[0]
    assert server.get("/") == (200, "<p>the page")
    assert server.get("/_/queues/record")[0] == 405
    assert server.get("/_/index.html") == (404, '{"error": "there is nothing here"}')
    assert server.get("/readyz")[0] == 200


def test_before_any_worker_has_started_no_queue_is_found(
    redis_server: RedisServer, write_app: WriteApp, new_stack: NewStack
) -> None:
    stack = new_stack(redis_server, write_app(APP), QUEUE_RUN_API_KEYS=KEY)
    stack.push_server()
    for token in (KEY, "of-ann", None):
        answer = push(stack.url, "record", token=token)
        assert answer.error == (404, "no worker offers a queue 'record'")


# Faults


def test_without_workers_jobs_of_programs_wait_and_users_are_told_to(
    redis_server: RedisServer, write_app: WriteApp, new_stack: NewStack
) -> None:
    stack = new_stack(redis_server, write_app(APP), QUEUE_RUN_API_KEYS=KEY)
    server = stack.push_server()
    worker = stack.worker("-P", "threads", "-c", "2")
    stack.wait_until_ready()
    worker.kill()
    eventually(lambda: server.get("/readyz")[0] == 503, what="the absence of the worker")
    answer = push(stack.url, "record", token="of-ann")
    assert answer.error == (503, "no worker is there")
    assert answer.headers["Retry-After"] == "1"
    job_id = push(stack.url, "record", "patience").job
    stack.worker("-P", "threads", "-c", "2")
    assert record_of(redis_server.client(), stack, job_id)["job"] == "patience"


@pytest.mark.parametrize("path", ["record", "orders?group=1"])
def test_while_redis_does_not_answer_a_push_is_told_so_in_time(
    own_redis: RedisServer, write_app: WriteApp, new_stack: NewStack, path: str
) -> None:
    stack = new_stack(
        own_redis, write_app(APP), QUEUE_RUN_API_KEYS=KEY, QUEUE_RUN_PUBLISH_TIMEOUT="1"
    )
    server = stack.push_server()
    stack.worker("-P", "threads", "-c", "2")
    stack.wait_until_ready()
    # Of a busy machine, the first answer may be that it was not taken in time.
    eventually(lambda: push(stack.url, path, "before").status == 202, what="a push")
    own_redis.process.send(signal.SIGSTOP)
    try:
        for _ in range(2):
            answer = push(stack.url, path, "meanwhile")
            assert answer.error == (503, "the job was not taken in time")
            assert answer.headers["Retry-After"] == "1"
        # The loop is not blocked.
        assert server.get("/healthz")[0] == 200
    finally:
        own_redis.process.send(signal.SIGCONT)

    def taken() -> bool:
        return push(stack.url, path, "after").status == 202

    eventually(taken, what="a push after Redis has come back")


def test_a_frozen_redis_keeps_no_server_from_stopping(
    own_redis: RedisServer, write_app: WriteApp, new_stack: NewStack
) -> None:
    stack = new_stack(
        own_redis,
        write_app(APP),
        QUEUE_RUN_API_KEYS=KEY,
        QUEUE_RUN_PUBLISH_TIMEOUT="1",
        QUEUE_RUN_SHUTDOWN_GRACE="4",
    )
    server = stack.push_server()
    stack.worker("-P", "threads", "-c", "2")
    stack.wait_until_ready()
    own_redis.process.send(signal.SIGSTOP)
    try:
        assert push(stack.url, "record").status == 503
        server.send(signal.SIGTERM)
        assert server.wait() == 0
    finally:
        own_redis.process.send(signal.SIGCONT)


async def test_sigterm_while_pushing_loses_no_push_that_was_accepted(
    redis_server: RedisServer, write_app: WriteApp, new_stack: NewStack
) -> None:
    stack = new_stack(
        redis_server,
        write_app(APP),
        QUEUE_RUN_API_KEYS=KEY,
        # Who ends sooner than this test waits has not waited for the end of it.
        QUEUE_RUN_SHUTDOWN_GRACE=f"{3 * DEADLINE:g}",
    )
    server = stack.push_server()
    stack.worker("-P", "threads", "-c", "4")
    await asyncio.to_thread(stack.wait_until_ready)
    accepted: list[str] = []
    refused: list[int] = []

    async def keep_pushing(token: str) -> None:
        while True:
            try:
                answer = await asyncio.to_thread(push, stack.url, "record", token=token)
            except OSError:
                # It listens no more.
                return
            if answer.status != 202:
                refused.append(answer.status)
                return
            accepted.append(answer.job)

    # A user's push is with a worker twice: its question, and its job.
    pushing = [asyncio.create_task(keep_pushing(who)) for who in (KEY, KEY, "of-ann", "of-bob")]
    await eventually_async(lambda: len(accepted) > 40, what="some pushes")
    server.send(signal.SIGTERM)
    assert await asyncio.to_thread(server.wait) == 0
    await asyncio.wait_for(asyncio.gather(*pushing), DEADLINE)
    assert set(refused) <= {503}

    def ran() -> bool:
        return {each["job_id"] for each in records(redis_server.client(), stack)} >= set(accepted)

    await asyncio.to_thread(eventually, ran, what="every job that was accepted")


async def test_a_push_that_has_begun_is_finished_after_sigterm(
    redis_server: RedisServer, write_app: WriteApp, new_stack: NewStack
) -> None:
    stack = new_stack(redis_server, write_app(APP), QUEUE_RUN_API_KEYS=KEY)
    server = stack.push_server()
    stack.worker("-P", "threads", "-c", "2")
    await asyncio.to_thread(stack.wait_until_ready)
    address = urllib.parse.urlsplit(stack.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    with contextlib.closing(writer):
        head = f"POST /_/queues/record HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        head += "Content-Type: text/plain\r\nContent-Length: 4\r\n"
        writer.write(f"{head}\r\nlo".encode())
        # An answer to another client: the server has begun with this one.
        await asyncio.to_thread(push, stack.url, "record", "other")
        server.send(signal.SIGTERM)
        await asyncio.to_thread(server.wait_for_output, "stopping: ")
        writer.write(b"ng")
        async with asyncio.timeout(DEADLINE):
            answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert await asyncio.to_thread(server.wait) == 0
    job_id = answer.decode().partition("X-Job-Id: ")[2].split()[0]
    record = await asyncio.to_thread(record_of, redis_server.client(), stack, job_id)
    assert record["job"] == "long"
