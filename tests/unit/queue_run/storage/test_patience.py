"""Links that fall silent: how long anybody waits for them, and what the others learn of it."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu.exceptions import OperationalError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from queue_run.settings import Settings
from queue_run.storage.links import BlockingLink
from queue_run.storage.patience import (
    KEEPALIVE,
    LONGEST_ANSWER,
    Unready,
    is_unready,
    longest_answer,
    redis_options,
    standstills,
    watched,
)
from queue_run.storage.scripts import Store
from tests.processes import RedisServer
from tests.waiting import DEADLINE

PONG = b"+PONG\r\n"


class Server:
    """Answers everything with PONG, on every link that was opened after the last `fall_silent`."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._listening.settimeout(DEADLINE)
        self.accepted = 0
        self._heard: list[socket.socket] = []
        self._silent: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def fall_silent(self) -> None:
        self._silent.update(self._heard)

    def close(self) -> None:
        for each in (self._listening, *self._heard):
            with contextlib.suppress(OSError):
                each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._listening.accept()
                self.accepted += 1
                self._heard.append(link)
                threading.Thread(target=self._answer, args=(link,), daemon=True).start()

    def _answer(self, link: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := link.recv(4096):
                if link not in self._silent:
                    # Each command begins with a star.
                    link.sendall(PONG * data.count(b"*"))


@pytest.fixture
def server() -> Iterator[tuple[Server, str]]:
    listening = socket.create_server(("127.0.0.1", 0))
    made = Server(listening)
    yield (
        made,
        f"redis://127.0.0.1:{listening.getsockname()[1]}/0?protocol=2",
    )
    made.close()


def test_one_answer_leaves_time_for_another_try() -> None:
    assert longest_answer(2.0) == 1.0
    assert longest_answer(60.0) == LONGEST_ANSWER
    assert LONGEST_ANSWER < 5


def test_a_link_over_tcp_is_looked_after_by_the_kernel() -> None:
    options = redis_options("rediss://127.0.0.1", timeout=1.0, connect_timeout=2.0)
    assert options["socket_keepalive"] is True
    assert options["socket_keepalive_options"] == KEEPALIVE
    assert KEEPALIVE[socket.TCP_KEEPIDLE] + KEEPALIVE[socket.TCP_KEEPINTVL] * 2 < 10


def test_a_link_over_a_unix_socket_can_be_made(tmp_path: Path) -> None:
    """redis-py refuses the options of TCP there."""
    url = f"unix://{tmp_path}/redis.sock"
    with pytest.raises(redis.ConnectionError):
        BlockingLink(url, timeout=1.0).exchange([("PING",)])
    store = Store(Settings(redis_url=url), patience=0.01)
    with pytest.raises(redis.ConnectionError):
        store.client.ping()


def test_a_silent_link_is_given_up_and_opened_anew(server: tuple[Server, str]) -> None:
    redis_server, url = server
    link = BlockingLink(url, timeout=2.0)
    assert link.exchange([("PING",)]) == [b"PONG"]
    redis_server.fall_silent()
    began = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        link.exchange([("PING",)])
    assert time.monotonic() - began < DEADLINE / 2
    assert link.exchange([("PING",)]) == [b"PONG"]
    assert redis_server.accepted == 2


def test_the_other_links_of_the_process_are_not_waited_for(
    server: tuple[Server, str], caplog: pytest.LogCaptureFixture
) -> None:
    redis_server, url = server
    links = [BlockingLink(url, timeout=2.0), BlockingLink(url, timeout=DEADLINE)]
    for link in links:
        link.exchange([("PING",)])
    redis_server.fall_silent()
    known = standstills.count
    with pytest.raises(redis.TimeoutError):
        links[0].exchange([("PING",)])
    assert standstills.count == known + 1
    assert links[1].exchange([("PING",)]) == [b"PONG"]
    assert "a link to Redis at 127.0.0.1:" in caplog.text


def test_links_that_are_as_new_as_the_standstill_stay_open(server: tuple[Server, str]) -> None:
    redis_server, url = server
    link = BlockingLink(url, timeout=DEADLINE)
    standstills.note("some other link", 1.0)
    for _ in range(3):
        link.exchange([("PING",)])
    assert redis_server.accepted == 1


def test_a_link_that_was_lost_and_is_opened_by_its_pool_can_be_used(
    server: tuple[Server, str],
) -> None:
    """It was made before a standstill, and opened after it."""
    redis_server, url = server
    pool: Any = redis.ConnectionPool.from_url(url, socket_timeout=DEADLINE)
    pool.connection_class = watched(pool.connection_class)
    client = redis.Redis(connection_pool=pool)
    assert client.ping()
    pool.disconnect()
    standstills.note("some other link", 1.0)
    assert client.ping()
    assert redis_server.accepted == 2


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ReadOnlyError("You can't write against a read only replica."), True),
        (ResponseError("READONLY You can't write against a read only replica."), True),
        (ResponseError("MISCONF Errors writing to the AOF file"), True),
        (ResponseError("UNBLOCKED client unblocked via CLIENT UNBLOCK"), True),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), True),
        (ResponseError("ERR max number of clients reached"), True),
        (
            # As Redis 6.2 words it.
            ResponseError(
                "Error running script (call to f_0f1e): @user_script:4: @user_script: 4: "
                "-READONLY You can't write against a read only replica."
            ),
            True,
        ),
        (
            ResponseError(
                "ERR Error running script (call to f_0f1e): @user_script:4: @user_script: 4: "
                "-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to"
            ),
            True,
        ),
        (
            ResponseError(
                "Command # 1 (SET a b) of pipeline caused error: READONLY You can't write against "
                "a read only replica."
            ),
            True,
        ),
        (
            ResponseError("Command # 2 (EVAL x) of pipeline caused error: MISCONF Errors writing"),
            True,
        ),
        # As kombu passes it on.
        (OperationalError("You can't write against a read only replica."), True),
        (
            ResponseError(
                "Command # 1 (SET a 'of pipeline caused error: READONLY') of pipeline caused "
                "error: WRONGTYPE Operation against a key"
            ),
            False,
        ),
        (
            ResponseError(
                "Error running script (call to f_0f1e): @user_script:4: @user_script: 4: "
                "Script attempted to access a non local key: READONLY"
            ),
            False,
        ),
        (ResponseError("BUSYGROUP Consumer Group name already exists"), False),
        (ResponseError("WRONGTYPE Operation against a key"), False),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), False),
    ],
)
def test_a_node_that_does_not_do_its_part_is_known_by_its_answer(
    error: Exception, passes: bool
) -> None:
    assert is_unready(error) == passes


def test_a_link_that_gets_such_an_answer_is_dropped(own_redis: RedisServer) -> None:
    pool = redis.ConnectionPool.from_url(own_redis.url)
    pool.connection_class = watched(pool.connection_class)
    link: Any = pool.make_connection()
    with own_redis.client() as admin:
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        link.send_command("SET", "a", "b")
        with pytest.raises(Unready, match="read only"):
            link.read_response()
        # Not all versions of redis-py say it in public.
        assert link._sock is None
        admin.execute_command("REPLICAOF", "NO", "ONE")
    link.send_command("SET", "a", "b")
    assert link.read_response() == b"OK"
    link.disconnect()
