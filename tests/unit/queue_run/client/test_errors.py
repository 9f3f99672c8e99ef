"""What the client's exceptions say, and by what they are caught."""

import pytest

import queue_run.client
from queue_run.client import errors
from queue_run.errors import QueueRunError


@pytest.mark.parametrize(
    ("code", "reason", "text"),
    [
        (403, "not you", "the server refused the connection with 403: not you"),
        (4401, "", "the server refused the connection with 4401"),
    ],
)
def test_a_refusal_says_with_what_and_why(code: int, reason: str, text: str) -> None:
    error = errors.Rejected(code, reason)
    assert (str(error), error.code, error.reason) == (text, code, reason)


@pytest.mark.parametrize("kind", [errors.Rejected, errors.ConnectionFailed])
def test_what_connecting_raises_is_a_connection_error(kind: type) -> None:
    assert issubclass(kind, ConnectionError)


def test_everything_is_a_queue_run_error() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and kind.__module__ == errors.__name__
    ]
    assert len(kinds) == 5
    assert all(issubclass(kind, QueueRunError) and kind.__doc__ for kind in kinds)


def test_the_old_name_of_a_refusal_goes_on_working() -> None:
    with pytest.warns(DeprecationWarning, match="Rejected"):
        assert queue_run.client.ConnectionRefused is errors.Rejected
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = queue_run.client.Nothing
