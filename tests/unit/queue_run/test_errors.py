"""Errors say what is wrong and what to do; the tree at the top of the module is the truth."""

import pickle
import re

import pytest

from queue_run import errors
from queue_run.errors import (
    ApplicationError,
    AskToken,
    ChannelUnavailable,
    ClientError,
    DispatchUnavailable,
    HandlerTimeout,
    InvalidEnvelope,
    InvalidName,
    InvalidPush,
    JobStoreUnavailable,
    MessageTooLarge,
    NotAwaited,
    NotEncodable,
    OutsideCall,
    QueueRunError,
    Refuse,
    SettingsError,
    UnfitPackage,
    UnknownDeadLetter,
    UnknownQueue,
    UsageError,
    WorkerLost,
)

EXAMPLES: list[QueueRunError] = [
    SettingsError(["PORT='x': expected `int`", "REDIS_URL='y': begin it with redis://"]),
    ApplicationError(["sockets/chat.py: line 3: invalid syntax"]),
    UnfitPackage("kombu", "5.8.0", "kombu.transport.redis.Channel._put", "5.7.0"),
    OutsideCall("send"),
    NotAwaited(),
    UnknownQueue("mial", ["report", "mail"]),
    InvalidPush("mail does not take this payload: payload: expected `int`"),
    InvalidName("a user id is a non-empty text or an int, not ''"),
    UnknownDeadLetter("a-job"),
    NotEncodable({1}, "it has no JSON form"),
    MessageTooLarge(1_500_000, 1_048_576),
    ClientError("send a number"),
    Refuse(403, "members only"),
    AskToken("send your token"),
    HandlerTimeout(2.5),
    WorkerLost(2),
    ChannelUnavailable("Redis took no message"),
    DispatchUnavailable("the broker took no job"),
    JobStoreUnavailable("Redis did not answer"),
    InvalidEnvelope(b"\x02" + b"x" * 100, "version 2 where 1 is spoken"),
]


def classes() -> dict[str, type[BaseException]]:
    return {
        name: each
        for name, each in vars(errors).items()
        if isinstance(each, type)
        and issubclass(each, BaseException)
        and each.__module__ == errors.__name__
    }


def drawn_tree() -> dict[str, str]:
    """Each class of the drawing, with the class that it hangs from."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines()[2:]:
        found = re.match(r"((?:│   |    )*(?:├── |└── )?)(\w+)", line)
        assert found is not None, f"not a line of a tree: {line!r}"
        depth = len(found[1]) // 4
        path[depth:] = [found[2]]
        assert len(path) == depth + 1, f"hangs from nothing: {line!r}"
        parents[found[2]] = path[-2] if depth else "Exception"
    return parents


def test_the_tree_in_the_docstring_shows_exactly_the_classes() -> None:
    actual = {name: each.__bases__[0].__name__ for name, each in classes().items()}
    assert drawn_tree() == actual


def test_the_tree_keeps_the_order_of_the_module() -> None:
    assert list(drawn_tree()) == list(classes())


def test_every_class_says_when_it_is_raised() -> None:
    assert [name for name, each in classes().items() if not each.__dict__.get("__doc__")] == []


def test_every_class_that_is_raised_has_an_example_here() -> None:
    branches = {"QueueRunError", "UsageError", "InfrastructureError"}
    assert {type(each).__name__ for each in EXAMPLES} == classes().keys() - branches


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_keeps_its_text_when_a_child_process_passes_it_on(error: QueueRunError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)


def test_problems_of_settings_come_one_a_line() -> None:
    error = SettingsError(["PORT='x': a number", "REDIS_URL='y': a URL"])
    assert error.problems == ("PORT='x': a number", "REDIS_URL='y': a URL")
    assert str(error) == (
        "settings cannot be used:\n  - PORT='x': a number\n  - REDIS_URL='y': a URL"
    )


def test_problems_of_an_application_come_one_a_line() -> None:
    error = ApplicationError(["sockets/a.py: no handler", "queues/b.py: no payload"])
    assert str(error) == (
        "the application cannot be loaded:\n"
        "  - sockets/a.py: no handler\n"
        "  - queues/b.py: no payload"
    )


@pytest.mark.parametrize("verb", ["send", "close"])
def test_outside_a_call_the_text_says_to_name_the_users(verb: str) -> None:
    assert f"socket.to(user_id).{verb}(...)" in str(OutsideCall(verb))
    assert str(OutsideCall(verb)).startswith(f"socket.{verb}(...) works only while")


def test_an_unknown_queue_lists_those_that_exist() -> None:
    error = UnknownQueue("mial", {"report", "mail"})
    assert str(error) == "no queue 'mial': the workers offer mail, report"


def test_an_unknown_queue_says_so_when_there_is_none() -> None:
    assert str(UnknownQueue("mail", [])) == "no queue 'mail': the workers offer none"


def test_a_value_that_cannot_be_sent_is_named_by_its_type() -> None:
    error = NotEncodable({1: object()}, "objects have no JSON form")
    assert str(error) == "a value of type dict cannot be sent: objects have no JSON form"


def test_a_message_too_large_tells_both_numbers_and_the_setting() -> None:
    text = str(MessageTooLarge(1_500_000, 1_048_576))
    assert "1,500,000 bytes" in text
    assert "the limit of 1,048,576" in text
    assert "QUEUE_RUN_MAX_MESSAGE_BYTES" in text


@pytest.mark.parametrize("status", [400, 401, 599])
def test_a_refusal_takes_statuses_of_errors(status: int) -> None:
    assert Refuse(status).status == status


@pytest.mark.parametrize("status", [200, 302, 399, 600])
def test_a_refusal_takes_no_other_status(status: int) -> None:
    with pytest.raises(ValueError, match=f"400 to 599, not {status}"):
        Refuse(status)


def test_a_refusal_is_401_without_further_words() -> None:
    assert (Refuse().status, Refuse().reason) == (401, "")
    assert str(Refuse()) == "refused with status 401"
    assert str(Refuse(403, "members only")) == "members only"


def test_an_unknown_dead_letter_says_where_to_look() -> None:
    assert str(UnknownDeadLetter("a-job")) == (
        "no dead letter 'a-job': list them with queue-run queue dead list"
    )


def test_a_lost_worker_tells_the_attempt() -> None:
    assert str(WorkerLost(2)) == "the worker was lost during attempt 2"
    assert WorkerLost(2).attempt == 2


def test_a_timeout_tells_its_seconds() -> None:
    assert str(HandlerTimeout(10.0)) == "no answer within 10 seconds"
    assert str(HandlerTimeout(0.5)) == "no answer within 0.5 seconds"


def test_an_invalid_envelope_shows_its_beginning_only() -> None:
    text = str(InvalidEnvelope(b"A" * 10_000, "no reason"))
    assert text == f"not an envelope: no reason (begins with {b'A' * 24!r})"


def test_a_client_error_and_a_refusal_are_nobodys_mistake() -> None:
    assert not isinstance(ClientError("x"), UsageError)
    assert not isinstance(Refuse(), UsageError)
