"""Ids of connections and users."""

import enum
import uuid
from typing import Any

import pytest

from queue_run.contracts.ids import (
    ConnectionId,
    id_of_user,
    job_id,
    new_server_id,
    queue_name,
    server_of,
    text_id,
    user_id,
    user_ids,
)
from queue_run.errors import InvalidName


def test_every_start_of_a_server_has_another_id() -> None:
    assert len({new_server_id() for _ in range(100)}) == 100


def test_a_connection_names_its_server() -> None:
    server = new_server_id()
    assert server_of(ConnectionId(f"{server}-17")) == server


def test_a_text_is_a_user_id_as_it_is() -> None:
    assert user_id("ann@example.com") == "ann@example.com"


def test_an_int_becomes_text() -> None:
    assert [user_id(value) for value in (42, 0, -1)] == ["42", "0", "-1"]


class Someone(enum.StrEnum):
    ANN = "ann"


class Name(str):
    """Like a text of numpy."""

    __slots__ = ()


class Number(enum.IntEnum):
    SEVEN = 7


class Scalar:
    """Like an integer of numpy: it is no int."""

    def __index__(self) -> int:
        return 7


@pytest.mark.parametrize(
    ("value", "text"),
    [(Someone.ANN, "ann"), (Name("ann"), "ann"), (Number.SEVEN, "7"), (Scalar(), "7")],
)
def test_texts_and_numbers_of_other_classes_become_plain_text(value: Any, text: str) -> None:
    for found in (user_id(value), *user_ids(value), *user_ids([value])):
        assert (found, type(found)) == (text, str)


@pytest.mark.parametrize("value", ["", None, True, 1.5, b"ann", {"id": "ann"}, ["ann"]])
def test_nothing_else_is_a_user_id(value: object) -> None:
    with pytest.raises(TypeError, match="a user id is a non-empty text or an int, not "):
        user_id(value)


@pytest.mark.parametrize("one", ["ann", 7])
def test_one_id_is_a_list_of_one(one: str | int) -> None:
    assert user_ids(one) == [str(one)]


def test_ids_keep_their_order_and_count_once() -> None:
    assert user_ids(["bob", "ann", 7, "bob", "7", "ann"]) == ["bob", "ann", "7"]


def test_ids_come_from_any_iterable() -> None:
    assert user_ids(name for name in ("ann", "bob")) == ["ann", "bob"]
    assert user_ids({"ann": 1, "bob": 2}.keys()) == ["ann", "bob"]
    assert user_ids(()) == []


def test_one_bad_id_spoils_the_list() -> None:
    with pytest.raises(TypeError, match="not None"):
        user_ids(["ann", None])  # type: ignore[list-item]


def test_a_user_has_the_id_that_on_authenticate_gave() -> None:
    assert id_of_user({"id": "ann", "email": "a@b"}) == "ann"
    assert id_of_user({"id": 7}) == "7"


def test_an_anonymous_user_has_no_id() -> None:
    assert id_of_user(None) is None


@pytest.mark.parametrize("user", [{}, {"name": "ann"}, "ann", 7, ["id"], False])
def test_a_user_is_an_object_with_an_id(user: object) -> None:
    with pytest.raises(TypeError, match='a user is an object with an "id"'):
        id_of_user(user)


@pytest.mark.parametrize("unusable", [None, "", True, 1.5])
def test_a_user_with_an_unusable_id_is_refused(unusable: object) -> None:
    with pytest.raises(TypeError, match="a user id is"):
        id_of_user({"id": unusable})


@pytest.mark.parametrize("wrong", [b"ann", bytearray(b"ann"), {"id": "ann", "email": "a@b"}])
def test_what_is_no_list_of_ids_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="one id or several"):
        user_ids(wrong)


@pytest.mark.parametrize("name", ["\ud83d", "ann\udc00", "a\ud800b"])
def test_half_a_character_is_no_name_of_a_user(name: str) -> None:
    with pytest.raises(TypeError, match="has half a character"):
        id_of_user({"id": name})
    with pytest.raises(TypeError, match="has half a character"):
        user_ids(["ann", name])


def test_names_of_users_may_have_any_whole_character() -> None:
    assert user_ids(["Ünal", "\U0001f600"]) == ["Ünal", "\U0001f600"]


@pytest.mark.parametrize("name", ["x" * 1_025, "\u00fc" * 513, "\U0001f600" * 257], ids=ascii)
def test_an_id_has_so_many_bytes(name: str) -> None:
    with pytest.raises(InvalidName, match="a group id has 1,024 bytes at most, not 1,02"):
        text_id("group id", name)
    assert text_id("group id", name[:-1]) == name[:-1]
    assert text_id("dedupe id", name, limit=None) == name


def test_of_a_wrong_id_only_the_beginning_is_shown() -> None:
    for value in ("x" * 100_000, ["x" * 100_000], "\ud83d" * 100_000, "\n" * 100_000):
        with pytest.raises(InvalidName) as caught:
            text_id("user id", value)
        assert len(str(caught.value)) < 250
        assert str(caught.value).isprintable()


def test_a_jobs_id_is_a_text_of_any_length_or_a_uuid() -> None:
    some = uuid.uuid4()
    assert job_id(some) == str(some)
    assert job_id("x" * 5_000) == "x" * 5_000
    for wrong in ("", None, [1], b"a", "\ud83d"):
        with pytest.raises(InvalidName):
            job_id(wrong)


@pytest.mark.parametrize("name", ["mail", "shop.orders", "a-b_c.d", "\u00fcber"])
def test_a_queue_is_named_after_its_file(name: str) -> None:
    assert queue_name(name) == name
