"""The client's side of the protocol, as JSON texts."""

import json
from typing import Any

import pytest

from queue_run.client.errors import OutcomeUnknown, RequestFailed
from queue_run.client.protocol import (
    Answered,
    Event,
    Failed,
    Missed,
    Moving,
    NoWelcome,
    Protocol,
    Ready,
    Received,
)
from queue_run.errors import NotEncodable

WELCOME = (
    '{"type":"welcome","connection":"c1","session":"s1","user":"ann","offset":"5-0","epoch":"e1",'
    '"heartbeat":25000,"resume":60000}'
)
#: Of another connection: another session, and the server is further.
WELCOME_AGAIN = WELCOME.replace("s1", "s2").replace("5-0", "50-0")
RESUMED = '{"type":"resumed","session":"s1","offset":"8-0"}'


def written(protocol: Protocol) -> list[Any]:
    """All that there is to write, as the server reads it."""
    frames = []
    while (frame := protocol.next_frame()) is not None:
        frames.append(json.loads(frame))
    return frames


def started(now: float = 0.0) -> Protocol:
    """A protocol that is up."""
    protocol = Protocol()
    protocol.opened()
    assert protocol.receive(WELCOME, now) == [Ready()]
    assert written(protocol) == [{"type": "start"}]
    return protocol


def reconnected(protocol: Protocol, now: float = 1.0, welcome: str = WELCOME_AGAIN) -> list[Event]:
    protocol.lost()
    protocol.opened()
    return protocol.receive(welcome, now)


def failures(events: list[Event]) -> list[tuple[int, type]]:
    return [(event.id, type(event.error)) for event in events if isinstance(event, Failed)]


# The beginning.


def test_a_fresh_client_starts_at_the_offset_of_the_welcome() -> None:
    protocol = started()
    assert (protocol.session, protocol.offset, protocol.epoch) == ("s1", "5-0", "e1")
    assert (protocol.user, protocol.heartbeat, protocol.up) == ("ann", 25.0, True)


@pytest.mark.parametrize(
    "frame", ['{"type":"ping"}', '{"error":"no such route"}', "hello", '{"type":"new"}']
)
def test_a_server_that_does_not_greet_speaks_another_protocol(frame: str) -> None:
    protocol = Protocol()
    protocol.opened()
    with pytest.raises(NoWelcome):
        protocol.receive(frame, 0.0)


def test_a_request_made_before_the_welcome_follows_the_start() -> None:
    protocol = Protocol()
    number = protocol.request("hi")
    protocol.opened()
    assert not protocol.has_frames
    protocol.receive(WELCOME, 0.0)
    assert written(protocol) == [{"type": "start"}, {"id": number, "data": "hi"}]


# Messages and pings.


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ('"data":{"a":[1]}', {"a": [1]}),
        ('"data":"text"', "text"),
        ('"data":null', None),
        ('"bytes":"AAH/"', b"\x00\x01\xff"),
    ],
)
def test_a_message_is_a_value_a_text_or_bytes(content: str, value: object) -> None:
    protocol = started()
    events = protocol.receive(f'{{"type":"message","offset":"6-0",{content}}}', 0.0)
    assert events == [Received(value)]
    assert protocol.offset == "6-0"


def test_a_message_without_an_offset_moves_nothing() -> None:
    protocol = started()
    assert protocol.receive('{"type":"message","data":1}', 0.0) == [Received(1)]
    assert protocol.offset == "5-0"


def test_a_ping_is_answered_and_moves_the_offset() -> None:
    protocol = started()
    assert protocol.receive('{"type":"ping","offset":"7-0"}', 0.0) == []
    assert written(protocol) == [{"type": "pong"}]
    assert protocol.offset == "7-0"


def test_a_ping_without_an_offset_is_only_answered() -> None:
    protocol = started()
    protocol.receive('{"type":"ping"}', 0.0)
    assert written(protocol) == [{"type": "pong"}]
    assert protocol.offset == "5-0"


@pytest.mark.parametrize("frame", ['{"type":"new","x":1}', "no JSON", '{"type":"pong"}'])
def test_a_frame_of_a_newer_server_costs_nothing(frame: str) -> None:
    protocol = started()
    assert protocol.receive(frame, 0.0) == []
    assert protocol.up


def test_a_server_that_is_about_to_end_asks_for_another_connection() -> None:
    assert started().receive('{"type":"reconnect","after":1200}', 0.0) == [Moving(1.2)]


# Requests.


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ('{"type":"reply","id":1,"data":{"a":1}}', {"a": 1}),
        ('{"type":"reply","id":1,"bytes":"AAE="}', b"\x00\x01"),
        ('{"type":"reply","id":1}', None),
    ],
)
def test_a_reply_answers_its_request_once(reply: str, value: object) -> None:
    protocol = started()
    assert protocol.request([1]) == 1
    assert written(protocol) == [{"id": 1, "data": [1]}]
    assert protocol.receive(reply, 0.0) == [Answered(1, value)]
    assert protocol.receive(reply, 0.0) == []


def test_bytes_travel_as_base64() -> None:
    protocol = started()
    for data in (b"\x00\x01", bytearray(b"\x00\x01"), memoryview(b"\x00\x01")):
        protocol.request(data)
    assert [frame["bytes"] for frame in written(protocol)] == ["AAE="] * 3


def test_what_has_no_json_form_is_no_request() -> None:
    protocol = started()
    with pytest.raises(NotEncodable):
        protocol.request(object())
    assert not protocol.has_frames


def test_an_error_fails_its_request_with_its_text() -> None:
    protocol = started()
    protocol.request(1)
    (event,) = protocol.receive('{"type":"error","id":1,"error":"no such room"}', 0.0)
    assert isinstance(event, Failed)
    assert isinstance(event.error, RequestFailed)
    assert (event.id, str(event.error)) == (1, "no such room")


@pytest.mark.parametrize("name", ["null", "2", '"1"'])
def test_an_error_of_nobodys_request_fails_none(name: str) -> None:
    protocol = started()
    protocol.request(1)
    assert protocol.receive(f'{{"type":"error","id":{name},"error":"what?"}}', 0.0) == []
    assert protocol.receive('{"type":"reply","id":1}', 0.0) == [Answered(1, None)]


def test_a_forgotten_request_is_neither_sent_nor_answered() -> None:
    protocol = started()
    protocol.forget(protocol.request("written by nobody"))
    assert written(protocol) == []
    number = protocol.request("written")
    written(protocol)
    protocol.forget(number)
    assert protocol.receive(f'{{"type":"reply","id":{number}}}', 0.0) == []


# Resuming.


def test_a_client_resumes_where_it_was_and_not_where_the_server_is() -> None:
    protocol = started()
    protocol.receive('{"type":"message","offset":"6-0","data":1}', 0.0)
    assert reconnected(protocol) == []
    expected = {"type": "resume", "session": "s1", "offset": "6-0", "epoch": "e1"}
    assert written(protocol) == [expected]
    # The socket is lost again before the answer: it still was there.
    assert reconnected(protocol, welcome=WELCOME_AGAIN.replace("e1", "e2")) == []
    assert written(protocol) == [expected]


def test_what_was_missed_is_given_when_all_of_it_is_there() -> None:
    protocol = started()
    reconnected(protocol)
    assert protocol.receive('{"type":"message","offset":"6-0","data":1}', 1.0) == []
    assert protocol.receive('{"type":"message","offset":"8-0","data":2}', 1.0) == []
    assert protocol.receive(RESUMED, 1.0) == [Received(1), Received(2), Ready()]
    assert (protocol.session, protocol.offset, protocol.up) == ("s1", "8-0", True)


def test_what_came_before_the_answer_is_got_again_when_the_socket_is_lost() -> None:
    # It may be news of a server that had not seen the resume yet, behind what was missed.
    protocol = started()
    reconnected(protocol)
    protocol.receive('{"type":"message","offset":"60-0","data":"news"}', 1.0)
    protocol.receive('{"type":"ping","offset":"60-0"}', 1.0)
    written(protocol)
    reconnected(protocol)
    assert written(protocol)[0]["offset"] == "5-0"
    protocol.receive('{"type":"message","offset":"6-0","data":"missed"}', 1.0)
    assert protocol.receive(RESUMED, 1.0) == [Received("missed"), Ready()]


def test_a_message_for_the_connection_alone_waits_for_no_answer() -> None:
    protocol = started()
    reconnected(protocol)
    assert protocol.receive('{"type":"message","data":1}', 1.0) == [Received(1)]


def test_a_gap_is_told_where_it_is_and_says_where_to_continue() -> None:
    protocol = started()
    reconnected(protocol)
    gap = '{"type":"gap","session":"s1","offset":"50-0","epoch":"e2"}'
    protocol.receive('{"type":"message","offset":"49-0","data":1}', 1.0)
    assert protocol.receive(gap, 1.0) == [Received(1), Missed(), Ready()]
    assert (protocol.session, protocol.offset, protocol.epoch) == ("s1", "50-0", "e2")


def test_a_gap_can_come_at_any_time_and_disturbs_no_request() -> None:
    protocol = started()
    protocol.request(1)
    written(protocol)
    gap = '{"type":"gap","session":"s1","offset":"9-0","epoch":"e2"}'
    assert protocol.receive(gap, 1.0) == [Missed()]
    assert (protocol.offset, protocol.epoch) == ("9-0", "e2")
    assert not protocol.has_frames
    assert protocol.receive('{"type":"reply","id":1}', 1.0) == [Answered(1, None)]


@pytest.mark.parametrize(
    "answer", [RESUMED, RESUMED.replace("resumed", "gap")[:-1] + ',"epoch":"e2"}']
)
def test_requests_without_answer_are_repeated_in_order_under_their_ids(answer: str) -> None:
    protocol = started()
    for data in ("one", "two", "three"):
        protocol.request(data)
    written(protocol)
    protocol.receive('{"type":"reply","id":2}', 0.0)
    reconnected(protocol)
    protocol.request("four")
    assert [frame["type"] for frame in written(protocol)] == ["resume"]
    assert protocol.receive(answer, 1.0)[-1] == Ready()
    assert written(protocol) == [
        {"id": 1, "data": "one"},
        {"id": 3, "data": "three"},
        {"id": 4, "data": "four"},
    ]


def test_an_answer_that_comes_before_the_resume_is_done_is_one() -> None:
    protocol = started()
    protocol.request(1)
    written(protocol)
    reconnected(protocol)
    assert protocol.receive('{"type":"reply","id":1,"data":"x"}', 1.0) == [Answered(1, "x")]
    written(protocol)
    protocol.receive(RESUMED, 1.0)
    assert written(protocol) == []


def test_a_session_that_was_not_taken_over_leaves_outcomes_unknown() -> None:
    protocol = started()
    protocol.request("written")
    written(protocol)
    protocol.request("not written")
    reconnected(protocol)
    events = protocol.receive(RESUMED.replace("s1", "s2"), 1.0)
    assert failures(events) == [(1, OutcomeUnknown)]
    assert events[-1] == Ready()
    assert protocol.session == "s2"
    assert [frame.get("data") for frame in written(protocol)] == [None, "not written"]


def test_a_session_that_equals_the_new_one_was_not_taken_over() -> None:
    protocol = started()
    protocol.request(1)
    written(protocol)
    reconnected(protocol, welcome=WELCOME)
    assert failures(protocol.receive(RESUMED, 1.0)) == [(1, OutcomeUnknown)]


def test_who_was_away_for_too_long_names_the_session_that_ended_and_repeats_nothing() -> None:
    protocol = started(now=100.0)
    protocol.request("written")
    written(protocol)
    protocol.request("not written")
    assert failures(reconnected(protocol, now=160.1)) == [(1, OutcomeUnknown)]
    # The server knows whether messages to the rooms of that session were missed.
    resume = {"type": "resume", "session": "s1", "offset": "5-0", "epoch": "e1"}
    assert written(protocol) == [resume]
    protocol.receive(RESUMED.replace("s1", "s2"), 161.0)
    assert written(protocol) == [{"id": 2, "data": "not written"}]
    assert protocol.session == "s2"


def test_who_was_away_for_less_keeps_the_session() -> None:
    protocol = started(now=100.0)
    reconnected(protocol, now=160.0)
    assert written(protocol)[0]["session"] == "s1"


def test_the_session_ends_also_while_there_is_no_connection() -> None:
    protocol = started(now=100.0)
    protocol.request(1)
    written(protocol)
    assert protocol.expire(500.0) == []
    protocol.lost()
    assert protocol.expire(160.0) == []
    assert failures(protocol.expire(161.0)) == [(1, OutcomeUnknown)]
    assert protocol.session is None


def test_a_welcome_that_was_not_followed_by_an_answer_keeps_no_session_alive() -> None:
    protocol = started(now=100.0)
    reconnected(protocol, now=150.0)
    reconnected(protocol, now=170.0)
    written(protocol)
    assert protocol.session is None


def test_each_frame_keeps_the_session_alive() -> None:
    protocol = started(now=100.0)
    for now in (140.0, 180.0):
        protocol.receive('{"type":"ping"}', now)
    protocol.lost()
    protocol.expire(239.0)
    assert protocol.session == "s1"


def test_a_frame_that_waited_in_a_stopped_process_is_no_news_of_the_session() -> None:
    protocol = started(now=100.0)
    protocol.receive('{"type":"ping"}', 1000.0)
    protocol.lost()
    protocol.expire(1000.1)
    assert protocol.session is None


def test_requests_of_a_session_that_a_gap_has_replaced_are_not_repeated_in_the_next() -> None:
    protocol = started()
    protocol.request(1)
    written(protocol)
    protocol.receive('{"type":"gap","session":"s5","offset":"9-0","epoch":"e1"}', 0.0)
    protocol.request(2)
    written(protocol)
    reconnected(protocol)
    events = protocol.receive(RESUMED.replace("s1", "s5"), 1.0)
    assert failures(events) == [(1, OutcomeUnknown)]
    assert written(protocol)[1:] == [{"id": 2, "data": 2}]


# What would close each socket.


def test_the_largest_request_fails_when_the_server_takes_none_of_its_size() -> None:
    protocol = started()
    protocol.request("small")
    protocol.request("large" * 100)
    assert protocol.too_large() == []
    written(protocol)
    (event,) = protocol.too_large()
    assert isinstance(event, Failed)
    assert isinstance(event.error, RequestFailed)
    assert (event.id, "larger than the server takes" in str(event.error)) == (2, True)
    assert protocol.was_written(1)


def test_no_other_request_fails_for_a_large_one_that_nobody_waits_for() -> None:
    protocol = started()
    protocol.request("small")
    large = protocol.request("large" * 100)
    written(protocol)
    protocol.forget(large)
    assert protocol.too_large() == []


def test_a_large_request_of_an_earlier_socket_has_nothing_to_do_with_this_one() -> None:
    protocol = started()
    protocol.request("large" * 100)
    written(protocol)
    protocol.receive('{"type":"reply","id":1}', 0.0)
    reconnected(protocol)
    protocol.receive(RESUMED, 1.0)
    protocol.request("small")
    written(protocol)
    assert failures(protocol.too_large()) == [(2, RequestFailed)]
