"""The WSGI middleware, with applications of a few lines."""

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import pytest

from queue_run.process import context
from queue_run.process.acting import as_user
from queue_run.wsgi import UserMiddleware


def user_id() -> str | None:
    call = context.current()
    return call.user_id if call is not None else "outside"


def line() -> bytes:
    return str(user_id()).encode()


def get(app: Callable[..., Iterable[bytes]], user: Any = "ann") -> Iterable[bytes]:
    """The body as a server gets it."""
    environ: dict[str, Any] = {"REMOTE_USER": user, "wsgi.file_wrapper": FileWrapper}
    setup_testing_defaults(environ)
    middleware = UserMiddleware(app, user=lambda environ: environ["REMOTE_USER"])
    body = middleware(environ, lambda status, headers, error=None: lambda data: None)
    assert user_id() == "outside"
    return body


class Body:
    """An iterable that notes as whom it is read and closed."""

    def __init__(self) -> None:
        self.closed_as: list[str | None] = []

    def __iter__(self) -> Iterator[bytes]:
        yield line()
        yield line()

    def close(self) -> None:
        self.closed_as.append(user_id())


def test_the_application_acts_for_the_environ_s_user() -> None:
    assert get(lambda environ, start: [line()]) == [b"ann"]


@pytest.mark.parametrize(
    ("user", "expected"), [(None, b"None"), ({"id": "bob"}, b"bob"), (7, b"7")]
)
def test_any_kind_of_user_will_do(user: Any, expected: bytes) -> None:
    assert get(lambda environ, start: [line()], user) == [expected]


def test_a_list_stays_a_list_so_that_servers_know_its_length() -> None:
    assert isinstance(get(lambda environ, start: [b"a"]), list)


def test_a_file_stays_a_file_so_that_servers_can_send_it() -> None:
    body = get(lambda environ, start: FileWrapper(io.BytesIO(b"x")))
    assert isinstance(body, FileWrapper)


def test_a_generator_acts_for_the_user_in_every_step() -> None:
    def app(environ: Any, start: Any) -> Iterator[bytes]:
        yield line()
        yield line()

    seen = []
    for chunk in get(app):
        seen.append(chunk)
        assert user_id() == "outside"
    assert seen == [b"ann", b"ann"]


def test_an_iterable_is_read_and_closed_as_the_user() -> None:
    made = Body()
    body = get(lambda environ, start: made)
    assert list(body) == [b"ann", b"ann"]
    body.close()  # type: ignore[attr-defined]
    assert made.closed_as == ["ann"]


def test_a_response_that_is_closed_early_ends_its_generator_as_the_user() -> None:
    ended: list[str | None] = []

    def app(environ: Any, start: Any) -> Iterator[bytes]:
        try:
            yield b"first"
            yield b"second"
        finally:
            ended.append(user_id())

    body = get(app)
    assert next(iter(body)) == b"first"
    body.close()  # type: ignore[attr-defined]
    assert ended == ["ann"]


def test_a_body_without_close_is_closed_harmlessly() -> None:
    body = get(lambda environ, start: map(lambda number: line(), [1]))  # noqa: C417
    assert list(body) == [b"ann"]
    body.close()  # type: ignore[attr-defined]


def test_a_block_of_another_user_lasts_over_the_steps_of_a_generator() -> None:
    def app(environ: Any, start: Any) -> Iterator[bytes]:
        with as_user("bob"):
            yield line()
            yield line()
        yield line()

    assert list(get(app)) == [b"bob", b"bob", b"ann"]


def test_responses_read_in_turns_and_by_other_threads_keep_their_users() -> None:
    def app(environ: Any, start: Any) -> Iterator[bytes]:
        for _ in range(3):
            yield line()

    ann, bob = iter(get(app, "ann")), iter(get(app, "bob"))
    seen = [next(ann), next(bob)]
    thread = threading.Thread(target=lambda: seen.append(next(ann)))
    thread.start()
    thread.join()
    assert [*seen, next(bob), next(ann)] == [b"ann", b"bob", b"ann", b"bob", b"ann"]


def test_a_failure_leaves_no_user_behind() -> None:
    def app(environ: Any, start: Any) -> list[bytes]:
        raise LookupError

    with pytest.raises(LookupError):
        get(app)
    assert user_id() == "outside"
