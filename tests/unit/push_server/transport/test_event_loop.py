"""How much the event loop takes on in one turn."""

import asyncio
import contextlib
import selectors
import socket
import sys
from collections.abc import Iterator

import pytest

from push_server.transport.event_loop import ACCEPTED_AT_ONCE, SOCKETS_AT_ONCE, Entrance, new_loop

if sys.platform == "linux":
    from push_server.transport.event_loop import ShortIterations

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")
MANY = 5 * SOCKETS_AT_ONCE


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with contextlib.ExitStack() as ending:
        made = [socket.socketpair() for _ in range(MANY)]
        for each in (each for pair in made for each in pair):
            each.setblocking(False)
            ending.enter_context(each)
        yield made


@pytest.fixture
def selector() -> Iterator["ShortIterations"]:
    made = ShortIterations()
    yield made
    made.close()


@linux_only
def test_all_sockets_have_their_turn_before_any_has_its_second(
    selector: "ShortIterations", pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    for here, there in pairs:
        selector.register(here, selectors.EVENT_READ)
        there.send(b"x")
    served: list[object] = []
    while len(served) < 2 * MANY:
        found = selector.select(0)
        assert len(found) == SOCKETS_AT_ONCE
        # None is read: each has news again.
        served += [key.fileobj for key, _ in found]
    assert len(set(served[:MANY])) == MANY
    assert served[MANY:] == served[:MANY]


@linux_only
def test_it_tells_what_a_socket_is_ready_for(
    selector: "ShortIterations", pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    (here, there), (idle, _) = pairs[:2]
    selector.register(here, selectors.EVENT_READ | selectors.EVENT_WRITE, "both")
    selector.register(idle, selectors.EVENT_READ)
    assert [(key.data, events) for key, events in selector.select()] == [
        ("both", selectors.EVENT_WRITE)
    ]
    there.send(b"x")
    [(_, events)] = selector.select(1)
    assert events == selectors.EVENT_READ | selectors.EVENT_WRITE
    selector.modify(here, selectors.EVENT_READ)
    there.close()
    [(_, events)] = selector.select(1)
    assert events == selectors.EVENT_READ
    selector.unregister(here)
    assert selector.select(0) == []
    assert selector.select(-1) == []


@linux_only
def test_a_timer_is_served_between_the_sockets(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    order: list[str] = []

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def read(here: socket.socket) -> None:
            here.recv(1)
            order.append("socket")
            if len(order) > MANY:
                done.set()

        for here, there in pairs:
            loop.add_reader(here, read, here)
            there.send(b"x")
        loop.call_soon(loop.call_later, 0, order.append, "timer")
        async with asyncio.timeout(10):
            await done.wait()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve())
    assert order.index("timer") <= 2 * SOCKETS_AT_ONCE


def test_an_entrance_lets_a_few_in_at_a_time() -> None:
    accepted: list[socket.socket] = []
    counted: list[None] = []
    with contextlib.ExitStack() as ending:
        opened = socket.create_server(("127.0.0.1", 0), backlog=128)
        address = opened.getsockname()
        entrance = ending.enter_context(Entrance(opened, lambda: counted.append(None)))
        for _ in range(2 * ACCEPTED_AT_ONCE):
            ending.enter_context(socket.create_connection(address, timeout=5))
        for turn in (1, 2):
            with contextlib.suppress(BlockingIOError):
                while True:
                    accepted.append(ending.enter_context(entrance.accept()[0]))
            assert len(accepted) == len(counted) == turn * ACCEPTED_AT_ONCE
        with pytest.raises(BlockingIOError):
            entrance.accept()
        assert not entrance.getblocking()
