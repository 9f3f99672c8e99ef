"""Downloads from servers that misbehave."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from queue_run.threads.downloads import MAX_BYTES, Download
from tests.waiting import DEADLINE, eventually

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
Send = Callable[[bytes], None]


@contextmanager
def server(answer: Callable[[Send, threading.Event], None]) -> Iterator[str]:
    """Answers each request as it is told, until the block ends."""
    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.settimeout(DEADLINE)
                    connection.recv(65_536)
                    answer(connection.sendall, ended)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(DEADLINE)


def dripping(head: bytes) -> Callable[[Send, threading.Event], None]:
    """A byte now and then, each of them in time."""

    def answer(send: Send, ended: threading.Event) -> None:
        send(head)
        while not ended.wait(0.02):
            send(b"x")

    return answer


def test_an_answer_is_taken_whole() -> None:
    def answer(send: Send, ended: threading.Event) -> None:
        for part in (HEAD, b"one ", b"two"):
            send(part)

    with server(answer) as url:
        download = Download(url, DEADLINE)
        assert download.fetch() == b"one two"
        assert download.fetch() == b"one two"


@pytest.mark.parametrize("head", [HEAD, b"HTTP/1.1 200 OK\r\nX: "], ids=["body", "head"])
def test_a_server_that_sends_a_byte_now_and_then_is_late(head: bytes) -> None:
    with server(dripping(head)) as url:
        download = Download(url, 0.3)
        with pytest.raises(TimeoutError):
            download.fetch()
    # Once its server has ended, it may be asked again.
    thread = download._thread
    assert thread is not None
    eventually(lambda: not thread.is_alive(), what="the end of the download")
    with pytest.raises(OSError, match="refused"):
        download.fetch()


def test_one_that_still_sends_is_not_asked_again() -> None:
    with server(dripping(b"HTTP/1.1 200 OK\r\nX: ")) as url:
        download = Download(url, 0.2)
        for _ in range(2):
            with pytest.raises(TimeoutError) as failure:
                download.fetch()
        assert "still sends" in str(failure.value)


def test_an_answer_without_end_is_given_up() -> None:
    def answer(send: Send, ended: threading.Event) -> None:
        send(HEAD)
        while not ended.is_set():
            send(b" " * 65_536)

    with server(answer) as url, pytest.raises(ValueError, match=f"more than {MAX_BYTES:,} bytes"):
        Download(url, DEADLINE).fetch()
