"""The users' WebSocket document, one test for each of its sentences, on real processes.

Each test's docstring quotes its sentence, in Python's terms. docs/websocket-document.md lists them
all. What a test's clients send carries the test's own mark, by which it finds its calls of
middleware in the record that tests/apps/document keeps.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.record import Record
from tests.clients import Client, connected
from tests.conftest import new_namespace, write_files
from tests.processes import RedisServer, Stack
from tests.waiting import eventually_async

MIDDLEWARE, OWN = "sockets/_middleware.py", "sockets/own.py"
FOLDER, FILE = "sockets/folder/_middleware.py", "sockets/folder/file.py"

#: An application with middleware in index.py, which others in the folder do not get.
INDEX_APP = {
    "sockets/index.py": """
async def on_authenticate(request):
    name = request.query.get("user")
    return {"id": f"{name} by index"} if name else None

async def on_message_sent(message):
    print("index sent", message.target, message.data, flush=True)

async def handler(user):
    return user
""",
    "sockets/_middleware.py": """
async def on_authenticate(request):
    return {"id": "by _middleware"}

async def on_message_sent(message):
    print("_middleware sent", message.target, message.data, flush=True)
""",
    "sockets/other.py": """
from queue_run import queues

async def handler(data):
    await queues.get("tell").push(data)
    return "pushed"
""",
    "queues/tell.py": """
from queue_run import socket

async def handler(job):
    await socket.send({"told": job})
""",
}


@pytest.fixture(scope="module")
def index_stack(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    stack = Stack(
        redis_server.url,
        write_files(tmp_path_factory.mktemp("index") / "app", INDEX_APP),
        new_namespace(),
    )
    stack.push_server()
    stack.worker("-P", "solo")
    stack.wait_until_ready()
    yield stack
    print(stack.logs())  # noqa: T201
    stack.end()


async def assert_hears_nothing_but(client: Client, *expected: Any) -> None:
    """The next messages are these; the answer to one more question shows that no other came."""
    assert [await client.receive() for _ in expected] == list(expected)
    assert await client.ask({"reply": "that is all"}) == "that is all"


async def assert_logged(stack: Stack, *texts: str) -> None:
    await eventually_async(
        lambda: all(text in stack.logs() for text in texts), what=f"log lines with {texts}"
    )


def lines(stack: Stack, text: str) -> list[str]:
    return [line for line in stack.logs().splitlines() if text in line]


async def run_script(stack: Stack, code: str) -> None:
    script = stack.script(code)
    exit_code = await asyncio.to_thread(script.wait)
    assert exit_code == 0, script.output


# Request handlers


async def test_request_handlers_accept_a_websocket_request(document_stack: Stack) -> None:
    """Request handlers accept a WebSocket request."""
    async with connected(document_stack.ws("/")) as client:
        assert await client.ask({"reply": "accepted"}) == "accepted"


async def test_they_take_named_parameters_or_the_whole_request(document_stack: Stack) -> None:
    """They take a single argument with named parameters.

    In Python: parameters by name; or a single one, the request, which has them all.
    """
    async with (
        connected(document_stack.ws("/facts?user=named")) as by_name,
        connected(document_stack.ws("/whole?user=named")) as whole,
    ):
        facts, request = await by_name.ask({"a": 1}), await whole.ask({"a": 1})
    assert set(request) == {"connection", "data", "request_id", "user"}
    assert set(facts) == {*request, "type"}
    assert (facts["data"], facts["user"]) == (request["data"], request["user"])


async def test_connection_is_the_connection_id_for_this_websocket(document_stack: Stack) -> None:
    """`connection`: the connection ID for this WebSocket."""
    async with (
        connected(document_stack.ws("/facts")) as one,
        connected(document_stack.ws("/facts")) as two,
        connected(document_stack.ws("/facts", server=1)) as three,
    ):
        ids = [(await client.ask(1))["connection"] for client in (one, two, three)]
        assert len(set(ids)) == 3
        assert [(await client.ask(2))["connection"] for client in (one, two, three)] == ids


@pytest.mark.parametrize(
    ("message", "type_name", "data"),
    [
        ({"a": [1, None]}, "dict", {"a": [1, None]}),
        ("[1]", "list", [1]),
        ("plain text", "str", "plain text"),
        (b"\x00\xff", "bytes", "2 bytes"),
    ],
)
async def test_data_is_json_text_or_bytes(
    document_stack: Stack, message: Any, type_name: str, data: Any
) -> None:
    """`data`: the request is either JSON, a `str`, or `bytes`."""
    async with connected(document_stack.ws("/facts")) as client:
        answer = await client.ask(message)
        assert (answer["type"], answer["data"]) == (type_name, data)


async def test_request_id_is_unique(document_stack: Stack) -> None:
    """`request_id`: unique request ID."""
    async with (
        connected(document_stack.ws("/facts")) as one,
        connected(document_stack.ws("/facts", server=1)) as two,
    ):
        ids = [(await client.ask(n))["request_id"] for n in range(5) for client in (one, two)]
        assert len(set(ids)) == 10


async def test_user_is_the_object_returned_from_on_authenticate(document_stack: Stack) -> None:
    """`user`: user object returned from the `on_authenticate` middleware."""
    async with connected(document_stack.ws("/facts?user=ann")) as client:
        assert (await client.ask(1))["user"] == {"id": "ann", "tags": ["x"]}
    async with connected(document_stack.ws("/facts")) as client:
        assert (await client.ask(1))["user"] is None


async def test_a_handler_can_respond_with_a_message_but_this_is_not_required(
    document_stack: Stack,
) -> None:
    """A WebSocket request handler can respond with a message, but this is not required."""
    async with connected(document_stack.ws("/forms")) as client:
        await client.send("nothing")
        assert await client.ask("text") == "grüße"


async def test_it_can_also_use_socket_send_to_send_one_or_more_messages(
    document_stack: Stack,
) -> None:
    """It can also use `socket.send` to send one or more messages."""
    async with connected(document_stack.ws("/")) as client:
        await client.send({"steps": [{"send": "one"}]})
        await assert_hears_nothing_but(client, "one")
        await client.send({"steps": [{"send": n} for n in (1, 2, 3)], "reply": "done"})
        await assert_hears_nothing_but(client, 1, 2, 3, "done")


async def test_any_object_responds_with_a_json_document(document_stack: Stack) -> None:
    """`any object`: respond with a JSON document."""
    async with connected(document_stack.ws("/forms")) as client:
        await client.send("object")
        raw = await client.receive_raw()
        assert isinstance(raw, str)
        assert json.loads(raw) == {"a": [1, None]}
        assert await client.ask("dataclass") == {
            "x": 1,
            "at": "2020-02-29",
            "id": "00000000-0000-0000-0000-000000000001",
        }


async def test_bytes_respond_with_binary_content(document_stack: Stack) -> None:
    """`bytes`: respond with binary content."""
    async with connected(document_stack.ws("/forms")) as client:
        await client.send("bytes")
        assert await client.receive_raw() == b"\x00\xff"


async def test_a_string_responds_with_a_string(document_stack: Stack) -> None:
    """`str`: respond with string."""
    async with connected(document_stack.ws("/forms")) as client:
        await client.send("text")
        assert await client.receive_raw() == "grüße"


async def test_if_the_handler_throws_an_error_the_server_sends_back_an_error_object(
    document_stack: Stack,
) -> None:
    """If the request handler throws any other error, the server sends back a JSON object of the
    form `{"error": str}`."""
    async with connected(document_stack.ws("/")) as client:
        answer = await client.ask({"steps": [{"fail": "a secret"}]})
        assert list(answer) == ["error"]
        assert answer["error"].startswith("internal error (")
        assert await client.ask({"steps": [{"tell": "send less"}]}) == {"error": "send less"}


async def test_if_the_request_times_out_the_server_sends_back_an_error_object(
    document_stack: Stack,
) -> None:
    """Or if the request times out: `{"error": str}`."""
    async with connected(document_stack.ws("/slow")) as client:
        assert await client.ask({"seconds": 600}) == {"error": "no answer within 0.3 seconds"}


async def test_that_error_is_also_logged_by_the_logging_middleware(document_stack: Stack) -> None:
    """That error is also logged by the logging middleware."""
    async with connected(document_stack.ws("/other/file?user=logged-ann")) as client:
        answer = await client.ask({"steps": [{"fail": "a secret for the log"}]})
    request_id = answer["error"].partition("(")[2].rstrip(")")
    await assert_logged(
        document_stack,
        f"{request_id} at /other/file (user logged-ann, sockets/other/file.py) failed: "
        "a secret for the log",
        "RuntimeError: a secret for the log",
    )


# Sending messages


@pytest.mark.parametrize("way", ["handler", "job", "script"])
async def test_with_a_list_of_users_to_all_these_users_who_have_an_active_connection(
    document_stack: Stack, way: str
) -> None:
    """With a list of users, to all these users (who have an active WebSocket connection)."""
    ann, bob = f"{way}-ann", f"{way}-bob"
    step = {"to": [ann, bob, ann, "is-away"], "message": {"hi": way}}
    async with (
        connected(document_stack.ws(f"/?user={ann}")) as here,
        connected(document_stack.ws(f"/?user={ann}", server=1)) as there,
        connected(document_stack.ws(f"/?user={bob}", server=1)) as other,
        connected(document_stack.ws(f"/?user={way}-eve")) as eve,
        connected(document_stack.ws("/")) as nobody,
    ):
        if way == "handler":
            await eve.send({"steps": [step]})
        elif way == "job":
            await eve.send({"steps": [{"push": "act", "payload": {"steps": [step]}}]})
        else:
            code = f"from queue_run import socket; socket.to({step['to']}).send({step['message']})"
            await run_script(document_stack, code)
        for client in (here, there, other):
            await assert_hears_nothing_but(client, {"hi": way})
        for client in (eve, nobody):
            await assert_hears_nothing_but(client)


async def test_without_a_list_to_the_user_of_the_current_websocket_request(
    document_stack: Stack,
) -> None:
    """Without a list, to the user associated with the current WebSocket request."""
    async with (
        connected(document_stack.ws("/?user=request-ann")) as asker,
        connected(document_stack.ws("/?user=request-ann", server=1)) as tab,
        connected(document_stack.ws("/?user=request-bob")) as other,
    ):
        await asker.send({"steps": [{"send": "mine"}]})
        for client in (asker, tab):
            await assert_hears_nothing_but(client, "mine")
        await assert_hears_nothing_but(other)


async def test_without_a_list_to_the_user_of_the_current_http_request(
    document_stack: Stack,
) -> None:
    """Without a list, to the user associated with the current HTTP request."""
    code = """
from queue_run import as_user, queues, socket

def view(user):
    with as_user(user):
        socket.send("from a view")
        queues.get("plain").push({"send": "from its job"})

view("http-ann")
"""
    async with (
        connected(document_stack.ws("/?user=http-ann", server=1)) as ann,
        connected(document_stack.ws("/?user=http-bob")) as bob,
    ):
        await run_script(document_stack, code)
        await assert_hears_nothing_but(ann, "from a view", "from its job")
        await assert_hears_nothing_but(bob)


@pytest.mark.parametrize("queue", ["act", "plain"])
async def test_without_a_list_to_the_user_of_the_current_queued_job(
    document_stack: Stack, queue: str
) -> None:
    """Without a list, to the user associated with the current queued job.

    And a job of a job belongs to the same user.
    """
    message = {"from": queue}
    sends = {"act": {"steps": [{"send": message}]}, "plain": {"send": message}}[queue]
    pushes = {
        "act": {"steps": [{"push": "act", "payload": sends}]},
        "plain": {"push": "plain", "payload": sends},
    }[queue]
    async with (
        connected(document_stack.ws(f"/?user=job-{queue}-ann")) as ann,
        connected(document_stack.ws(f"/?user=job-{queue}-bob")) as bob,
    ):
        await ann.send({"steps": [{"push": queue, "payload": sends}]})
        await assert_hears_nothing_but(ann, message)
        await ann.send({"steps": [{"push": queue, "payload": pushes}]})
        await assert_hears_nothing_but(ann, message)
        await assert_hears_nothing_but(bob)


async def test_otherwise_over_the_current_connection(document_stack: Stack) -> None:
    """Otherwise, over the current connection (WebSocket request handler only)."""
    async with (
        connected(document_stack.ws("/")) as asker,
        connected(document_stack.ws("/")) as other,
    ):
        await asker.send({"steps": [{"send": "here"}]})
        await assert_hears_nothing_but(asker, "here")
        await assert_hears_nothing_but(other)
    code = """
from queue_run import OutsideCall, socket
try:
    socket.send("to whom?")
except OutsideCall as error:
    assert "name the users" in str(error)
else:
    raise AssertionError("sent")
"""
    await run_script(document_stack, code)


async def test_example_a_profile_update_notifies_all_the_users_devices(
    demo_stack: Stack,
) -> None:
    """In this example, when the user updates their profile, we save the changes in the database,
    and then notify all the user's devices."""
    code = """
import asyncio
from api.profile import put
asyncio.run(put({"id": "example-ann"}, {"name": "Ann"}))
"""
    async with (
        connected(demo_stack.ws("/devices?user=example-ann")) as phone,
        connected(demo_stack.ws("/devices?user=example-ann")) as laptop,
        connected(demo_stack.ws("/devices?user=example-bob")) as other,
    ):
        await run_script(demo_stack, code)
        for device in (phone, laptop):
            assert await device.receive() == {"event": "profile", "profile": {"name": "Ann"}}
            assert await device.ask({"get": "profile"}) == {"profile": {"name": "Ann"}}
        assert await other.ask({"get": "profile"}) == {"profile": {}}


async def test_example_you_can_also_update_a_specific_user_or_set_of_users(
    demo_stack: Stack,
) -> None:
    """You can also update a specific user or set of users."""
    code = """
from queue_run import queues
job = {"room": "hall", "members": ["hall-ann", "hall-bob"], "from": "ann", "text": "hi"}
queues.get("chat").push(job)
"""
    message = {"event": "message", "room": "hall", "from": "ann", "text": "hi"}
    async with (
        connected(demo_stack.ws("/?user=hall-ann")) as ann,
        connected(demo_stack.ws("/?user=hall-bob")) as bob,
        connected(demo_stack.ws("/?user=hall-eve")) as eve,
    ):
        await run_script(demo_stack, code)
        for member in (ann, bob):
            assert await member.receive() == message
        assert await eve.ask("anything?") == {"echo": "anything?"}


# Logging middleware


async def test_on_message_received_is_called_on_every_request(
    document_stack: Stack, record: Record
) -> None:
    """`on_message_received(request)`: called on every request."""
    mark = "every-request"
    async with connected(document_stack.ws("/?user=every-ann")) as client:
        for n in range(5):
            await client.ask({"mark": mark, "n": n, "reply": n})
        await client.ask({"mark": mark, "n": 5, "steps": [{"fail": "in the handler"}]})
    calls = await record.calls(mark, "on_message_received", 6)
    assert [call["data"]["n"] for call in calls] == [0, 1, 2, 3, 4, 5]
    assert len({call["connection"] for call in calls}) == 1


async def test_on_message_sent_is_called_for_every_message_sent(
    document_stack: Stack, record: Record
) -> None:
    """`on_message_sent(message)`: called for every message sent.

    Once for a message, however many receive it; with the message as it was given to `send`.
    """
    mark = "every-message"
    message = {"mark": mark}
    async with connected(document_stack.ws("/?user=sent-ann")) as client:
        steps = [
            {"send": {**message, "n": 1}},
            {"to": ["sent-bob", "sent-eve"], "message": {**message, "n": 2}},
            {"room": "sent-room", "message": {**message, "n": 3}},
        ]
        await client.send({"steps": steps, "reply": {**message, "n": 4}})
        assert [(await client.receive())["n"] for _ in range(2)] == [1, 4]
    calls = await record.calls(mark, "on_message_sent", 4)
    assert [call["data"]["n"] for call in calls] == [1, 2, 3, 4]
    targets = [call["target"] for call in calls]
    assert targets[:3] == ["sent-ann", "sent-bob, sent-eve", "room sent-room"]
    assert "-" in targets[3]


@pytest.mark.parametrize("where", ["handler", "on_message_received", "on_message_sent"])
async def test_on_error_is_called_if_the_handler_or_any_middleware_throws_an_error(
    document_stack: Stack, record: Record, where: str
) -> None:
    """`on_error(error, request)`: called if the request handler or any middleware throws an
    error."""
    mark = f"thrown-by-{where}"
    data: dict[str, Any] = {"mark": mark, "reply": {"mark": mark}}
    if where == "handler":
        data["steps"] = [{"fail": "handler is broken"}]
    elif where == "on_message_received":
        data["received"] = "fail"
    async with connected(document_stack.ws("/failing")) as client:
        await client.ask(data)
    call = (await record.calls(mark, "on_error"))[0]
    assert call["error"] == f"{where} is broken"
    assert (call["asker"], call["data"]) == ("Request", data)


async def test_on_error_is_called_if_on_authenticate_throws_an_error(
    document_stack: Stack, record: Record
) -> None:
    """`on_error(error, request)`: called if any middleware throws an error, on_authenticate too."""
    with pytest.raises(Exception, match="500"):
        async with connected(document_stack.ws("/own?way=fails&mark=thrown-by-authenticate")):
            pass
    call = await record.call("thrown-by-authenticate", "on_error")
    assert (call["file"], call["asker"]) == (MIDDLEWARE, "ConnectionRequest")


async def test_the_default_middleware_logs_messages_received_and_errors_but_not_messages_sent(
    document_stack: Stack,
) -> None:
    """The default middleware logs messages received and errors, but not messages sent."""
    async with connected(document_stack.ws("/other/file")) as client:
        await client.ask({"said": "default-received", "reply": "default-" + "sent"})
        await client.ask({"steps": [{"tell": "default-error"}]})
    await assert_logged(document_stack, "failed: default-error")
    received = lines(document_stack, "'said': 'default-received'")
    assert len(received) == 1
    assert ": <= {" in received[0]
    assert lines(document_stack, "=> 'default-sent'") == []


async def test_you_can_change_the_middleware_for_any_route_by_exporting_functions(
    document_stack: Stack, record: Record
) -> None:
    """You can change the middleware for any given route by exporting the functions you want to
    add, just like you export request handlers."""
    mark = "own-route"
    async with connected(document_stack.ws("/own")) as client:
        await client.ask({"mark": mark, "reply": {"mark": mark}})
        await client.ask({"mark": mark, "steps": [{"fail": "x"}]})
    await record.calls(mark, "on_message_sent")
    await record.calls(mark, "on_error")
    assert {(call["hook"], call["file"]) for call in record.all(mark)} == {
        ("on_message_received", OWN),
        ("on_message_sent", OWN),
        ("on_error", OWN),
    }


async def test_first_middleware_exported_by_the_handler_file_itself(
    document_stack: Stack, record: Record
) -> None:
    """The most specific middleware is picked: first, that exported by the request handler file
    itself."""
    mark = "file-first"
    async with connected(document_stack.ws("/folder/file")) as client:
        await client.ask({"mark": mark, "reply": "x"})
    assert (await record.call(mark, "on_message_received"))["file"] == FILE


async def test_then_middleware_exported_by_the_middleware_file_in_the_current_directory(
    document_stack: Stack, record: Record
) -> None:
    """Then, middleware exported by `_middleware.py` in the current directory."""
    mark = "folder-second"
    async with connected(document_stack.ws("/folder/file")) as client:
        await client.ask({"mark": mark, "reply": {"mark": mark}})
        await client.ask({"mark": mark, "steps": [{"fail": "x"}]})
    assert (await record.call(mark, "on_message_sent"))["file"] == FOLDER
    assert (await record.call(mark, "on_error"))["file"] == FOLDER


async def test_last_the_default_middleware(document_stack: Stack, record: Record) -> None:
    """Last, the default middleware; not that of the folder above."""
    mark = "default-last"
    async with connected(document_stack.ws("/other/file")) as client:
        await client.ask({"mark": mark, "reply": {"mark": mark}})
        # The next one is recorded later, by the same process.
    async with connected(document_stack.ws("/")) as client:
        await client.ask({"mark": f"{mark}-end", "reply": {"mark": f"{mark}-end"}})
    await record.calls(f"{mark}-end", "on_message_sent")
    assert record.all(mark) == []
    await assert_logged(document_stack, "<= {'mark': 'default-last'")


async def test_to_disable_middleware_for_one_route_you_can_export_none(
    document_stack: Stack, record: Record
) -> None:
    """If you don't want to use the default middleware, or disable middleware for one route, you
    can export `None`."""
    mark = "switched-off"
    async with connected(document_stack.ws("/off")) as client:
        assert await client.ask({"mark": mark, "reply": {"mark": mark}}) == {"mark": mark}
        assert "error" in await client.ask({"mark": mark, "steps": [{"fail": "switched off"}]})
    async with connected(document_stack.ws("/")) as client:
        await client.ask({"mark": f"{mark}-end", "reply": {"mark": f"{mark}-end"}})
    await record.calls(f"{mark}-end", "on_message_sent")
    assert record.all(mark) == []
    assert lines(document_stack, "'switched-off'}") == []
    assert lines(document_stack, "failed: switched off") == []


async def test_your_middleware_can_also_wrap_the_default_middleware(
    document_stack: Stack,
) -> None:
    """Your middleware can also wrap the default middleware."""
    async with connected(document_stack.ws("/wraps")) as client:
        await client.ask({"said": "wrapped", "password": "no", "reply": "sent 1"})
        await client.ask({"said": "wrapped", "reply": "sent 2"})
        await client.ask({"steps": [{"fail": "an expected one"}]})
        await client.ask({"steps": [{"fail": "a surprise"}]})
    await assert_logged(document_stack, "=> 'sent 1'", "=> 'sent 2'", "failed: a surprise")
    assert len(lines(document_stack, "<= {'said': 'wrapped'")) == 1
    assert lines(document_stack, "failed: an expected one") == []


async def test_example_middleware_logs_messages_received_and_sent(demo_stack: Stack) -> None:
    """For example: `on_message_received` logs `<=`, `on_message_sent` logs `=>`."""
    async with connected(demo_stack.ws("/?user=example-log")) as client:
        await client.ask("what the log shows")
    await assert_logged(demo_stack, "<= 'what the log shows'", "=> {'echo': 'what the log shows'}")


# Middleware context


async def test_on_authenticate_is_called_once_for_every_new_connection_before_accepting_it(
    document_stack: Stack, record: Record
) -> None:
    """`on_authenticate` is called once for every new connection before accepting the connection."""
    for n in range(3):
        async with connected(
            document_stack.ws(f"/?user=once-{n}&mark=authenticated-once")
        ) as client:
            # It has been called: the connection is open. No message of it calls it again.
            assert len(record.all("authenticated-once")) == n + 1
            await client.ask({"reply": 1})
            await client.ask({"reply": 2})
    assert [call["hook"] for call in record.all("authenticated-once")] == ["on_authenticate"] * 3


async def test_on_authenticate_is_loaded_from_either_index_or_the_middleware_file(
    document_stack: Stack, index_stack: Stack
) -> None:
    """`on_authenticate` is loaded from either `sockets/index.py` or `sockets/_middleware.py`."""
    async with connected(document_stack.ws("/folder/file?user=a&mark=loaded-from")) as client:
        await client.ask({"reply": 1})
    for path in ("/", "/index"):
        async with connected(index_stack.ws(f"{path}?user=ann")) as client:
            assert await client.ask(1) == {"id": "ann by index"}


async def test_on_message_received_is_loaded_from_the_specific_request_or_the_middleware_file(
    document_stack: Stack, record: Record
) -> None:
    """`on_message_received` is called for every message received, loaded from the specific
    request, or from `sockets/_middleware.py`."""
    mark = "received-from"
    for path in ("/own", "/", "/plain"):
        async with connected(document_stack.ws(path)) as client:
            await client.ask({"mark": mark, "reply": path, "send": "x"})
    calls = await record.calls(mark, "on_message_received", 3)
    assert [call["file"] for call in calls] == [OWN, MIDDLEWARE, "sockets/plain.py"]


@pytest.mark.parametrize(
    ("path", "file"), [("/own", OWN), ("/folder/file", FOLDER), ("/", MIDDLEWARE)]
)
async def test_if_the_handler_responds_on_message_sent_of_that_handler_is_called(
    document_stack: Stack, record: Record, path: str, file: str
) -> None:
    """If the request handler responds, `on_message_sent` associated with that request handler is
    called.

    And for what it sends, to whomever.
    """
    mark = f"responds{path}"
    step = {"to": ["somebody"], "message": {"mark": mark, "n": 1}}
    async with connected(document_stack.ws(path)) as client:
        await client.ask({"steps": [step], "reply": {"mark": mark, "n": 2}})
    calls = await record.calls(mark, "on_message_sent", 2)
    assert [(call["file"], call["data"]["n"]) for call in calls] == [(file, 1), (file, 2)]


async def test_for_every_other_message_on_message_sent_of_index_or_the_middleware_file_is_called(
    document_stack: Stack, index_stack: Stack, record: Record
) -> None:
    """For every other message sent, `on_message_sent` is called, loaded from either
    `sockets/index.py` or `sockets/_middleware.py`."""
    mark = "every-other"
    message = {"mark": mark}
    for queue in ("act", "plain"):
        payload = {"act": {"steps": [{"send": message}]}, "plain": {"send": message}}[queue]
        async with connected(document_stack.ws(f"/own?user=other-{queue}")) as client:
            await client.ask({"steps": [{"push": queue, "payload": payload}]})
    calls = await record.calls(mark, "on_message_sent", 2)
    assert [call["file"] for call in calls] == [MIDDLEWARE, MIDDLEWARE]
    async with connected(index_stack.ws("/other?user=ann")) as client:
        assert {json.dumps(each) for each in (await client.ask(7), await client.receive())} == {
            '"pushed"',
            '{"told": 7}',
        }
    await assert_logged(index_stack, "index sent ann by index {'told': 7}", "_middleware sent")
    assert len(lines(index_stack, "_middleware sent")) == 1
    assert "pushed" in lines(index_stack, "_middleware sent")[0]


# What the document leaves open


async def test_middleware_may_be_plain_or_asynchronous(
    document_stack: Stack, record: Record
) -> None:
    """Middleware may be `def` or `async def`, also one in a decorator."""
    mark = "plain-middleware"
    data = {"mark": mark, "send": {"mark": mark, "n": 1}, "reply": {"mark": mark, "n": 2}}
    async with connected(document_stack.ws("/plain")) as client:
        await client.send(data)
        assert [(await client.receive())["n"] for _ in range(2)] == [1, 2]
    await record.call(mark, "on_message_received")
    calls = await record.calls(mark, "on_message_sent", 2)
    assert {call["file"] for call in record.all(mark)} == {"sockets/plain.py"}
    assert sorted(call["data"]["n"] for call in calls) == [1, 2]


async def test_an_error_of_on_message_received_is_the_requests_error(
    document_stack: Stack,
) -> None:
    """The handler is not called, and the client gets the error."""
    async with connected(document_stack.ws("/failing")) as client:
        steps = [{"send": "the handler was called"}]
        answer = await client.ask({"received": "tell", "steps": steps})
        assert answer == {"error": "not at this hour"}
        answer = await client.ask({"received": "fail", "steps": steps})
        assert answer["error"].startswith("internal error (")
        assert await client.ask({"reply": "next"}) == "next"


@pytest.mark.parametrize("way", ["raise", "exit", "cancel"])
async def test_an_error_of_on_message_sent_never_breaks_delivery_and_is_logged(
    document_stack: Stack, way: str
) -> None:
    """The message is delivered, the next one too, and the log names the file."""
    async with connected(document_stack.ws(f"/failing?user=unbroken-{way}")) as client:
        before = len(lines(document_stack, "on_message_sent of sockets/failing.py failed"))
        message = {"sent": way}
        await client.send({"steps": [{"send": message}], "reply": message})
        assert [await client.receive() for _ in range(2)] == [message, message]
        assert await client.ask({"reply": "next"}) == "next"
        await eventually_async(
            lambda: (
                len(lines(document_stack, "on_message_sent of sockets/failing.py failed"))
                >= before + 3
            ),
            what="a line for each message",
        )


async def test_an_error_of_on_message_sent_never_breaks_a_job(
    document_stack: Stack, record: Record
) -> None:
    """The log names the file, and `on_error` of the same files is told."""
    mark = "failing-for-a-job"
    message = {"mark": mark, "wanted": "a failing on_message_sent"}
    payload = {"steps": [{"send": message}, {"send": "and on"}]}
    async with connected(document_stack.ws("/?user=unbroken-job")) as client:
        await client.send({"steps": [{"push": "act", "payload": payload}]})
        await assert_hears_nothing_but(client, message, "and on")
    await assert_logged(document_stack, f"on_message_sent of {MIDDLEWARE} failed")
    call = await record.call(f"broken by {mark}", "on_error")
    assert (call["file"], call["asker"]) == (MIDDLEWARE, "NoneType")


@pytest.mark.parametrize("way", ["x", "exit"])
async def test_an_error_of_on_error_never_breaks_delivery_and_is_logged(
    document_stack: Stack, way: str
) -> None:
    """The client gets its error, the next message is answered, and the log names the file."""
    text = f"{way} for on_error"
    async with connected(document_stack.ws("/failing")) as client:
        answer = await client.ask({"steps": [{"fail": text}]})
        assert answer["error"].startswith("internal error (")
        assert await client.ask({"reply": "next"}) == "next"
    await assert_logged(
        document_stack,
        f"on_error of sockets/failing.py failed, while it was told of: RuntimeError('{text}')",
    )


async def test_on_error_may_send_to_who_asked(document_stack: Stack) -> None:
    """`on_error` runs in the request that it is about."""
    async with connected(document_stack.ws("/?user=told-ann")) as client:
        await client.send({"tell on error": "sorry", "steps": [{"fail": "x"}]})
        assert await client.receive() == "sorry"
        assert "error" in await client.receive()


async def test_a_frame_that_does_not_fit_is_received_and_an_error(document_stack: Stack) -> None:
    """`on_message_received` is called for every message received."""
    async with connected(document_stack.ws("/validated/text")) as client:
        assert "error" in await client.ask(b"12345678901")
    await assert_logged(
        document_stack, "<= 11 bytes", "failed: this path takes text, not binary messages"
    )
