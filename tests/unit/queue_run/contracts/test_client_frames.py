"""Frames of the envelope protocol, as both sides share them.

What a push server makes of them is in tests/unit/push_server/protocols, what a client makes of
them in tests/unit/queue_run/client.
"""

import json
from collections.abc import Callable

import msgspec
import pytest

from queue_run.contracts import client_frames
from queue_run.contracts.client_frames import ClientFrame, ServerFrame
from queue_run.contracts.messages import decode_json


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (ClientFrame(id=7, data=msgspec.Raw(b'{"a": 1}')), '{"id":7,"data":{"a": 1}}'),
        (ClientFrame(id="7", binary=b"\x00"), '{"id":"7","bytes":"AA=="}'),
        (ClientFrame(type="start"), '{"type":"start"}'),
        (
            ClientFrame(type="resume", session="s", offset="1-2", epoch="e"),
            '{"type":"resume","session":"s","offset":"1-2","epoch":"e"}',
        ),
        (ClientFrame(type="pong"), '{"type":"pong"}'),
    ],
)
def test_frames_of_the_client(frame: ClientFrame, text: str) -> None:
    assert client_frames.encode(frame) == text.encode()
    assert client_frames.encode(client_frames.decode_client(text)) == text.encode()


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (
            client_frames.Welcome(
                connection="c",
                session="s",
                user=None,
                offset="1-2",
                epoch="e",
                heartbeat=25_000,
                resume=60_000,
            ),
            (
                '{"type":"welcome","connection":"c","session":"s","user":null,"offset":"1-2",'
                '"epoch":"e","heartbeat":25000,"resume":60000}'
            ),
        ),
        (client_frames.MessageFrame(data=msgspec.Raw(b"null")), '{"type":"message","data":null}'),
        (
            client_frames.MessageFrame(offset="1-2", binary=b""),
            '{"type":"message","offset":"1-2","bytes":""}',
        ),
        (client_frames.Reply(id=0), '{"type":"reply","id":0}'),
        (client_frames.ErrorFrame(id=None, error=""), '{"type":"error","id":null,"error":""}'),
        (
            client_frames.Resumed(session="s", offset="1-2"),
            '{"type":"resumed","session":"s","offset":"1-2"}',
        ),
        (
            client_frames.Gap(session="s", offset="1-2", epoch="e"),
            '{"type":"gap","session":"s","offset":"1-2","epoch":"e"}',
        ),
        (client_frames.Ping(), '{"type":"ping"}'),
        (client_frames.Ping(offset="1-2"), '{"type":"ping","offset":"1-2"}'),
        (client_frames.Pong(), '{"type":"pong"}'),
        (client_frames.Reconnect(after=1200), '{"type":"reconnect","after":1200}'),
    ],
)
def test_frames_of_the_server(frame: ServerFrame, text: str) -> None:
    assert client_frames.encode(frame) == text.encode()
    assert type(client_frames.decode_server(text)) is type(frame)
    assert client_frames.encode(client_frames.decode_server(text)) == text.encode()


HALF = '{"text": "\\ud83d", "whole": "\\ud83d\\ude00", "n": 1}'


def test_half_characters_come_through_in_both_directions() -> None:
    request = client_frames.decode_client(f'{{"id": 7, "data": {HALF}}}')
    assert isinstance(request.data, msgspec.Raw)
    assert decode_json(bytes(request.data)) == json.loads(HALF)
    reply = client_frames.decode_server(f'{{"type": "reply", "id": 7, "data": {HALF}}}')
    assert isinstance(reply, client_frames.Reply)
    assert isinstance(reply.data, msgspec.Raw)
    assert decode_json(bytes(reply.data)) == json.loads(HALF)


def test_a_frame_with_half_characters_is_checked_all_the_same() -> None:
    with pytest.raises(client_frames.NotUnderstood, match="unknown field `path`"):
        client_frames.decode_client(f'{{"id": 7, "path": "/", "data": {HALF}}}')


@pytest.mark.parametrize(
    "rest",
    [
        *('"bytes": "!!"', '"bytes": null', '"bytes": 7', '"data": 1, "path": "/"'),
        *('"type": "request", "data": 1', '"type": null, "data": 1', '"session": 7, "data": 1'),
        *(f'"data": {HALF}, "path": "/"', f'"data": {HALF}, "offset": null'),
    ],
)
@pytest.mark.parametrize("name", [7, "seven", 2**70])
def test_whatever_is_wrong_with_a_request_it_is_named(rest: str, name: int | str) -> None:
    with pytest.raises(client_frames.NotUnderstood) as refusal:
        client_frames.decode_client(f'{{"id": {json.dumps(name)}, {rest}}}')
    assert refusal.value.id == name


@pytest.mark.parametrize(
    "text",
    [
        *('{"id": null, "data": 1}', '{"id": true, "bytes": 7}', '{"id": "", "bytes": 7}'),
        *('{"id": "\\ud83d", "data": 1}', '{"id": "\\ud83d", "bytes": 7}', "[7]", '{"id": 7'),
        *('{"id": 7, "data": NaN}', '{"data": "\\ud83d", "path": 1}'),
    ],
)
def test_a_frame_whose_id_cannot_be_read_has_none(text: str) -> None:
    with pytest.raises(client_frames.NotUnderstood) as refusal:
        client_frames.decode_client(text)
    assert refusal.value.id is None


def test_a_client_passes_over_what_a_later_server_adds() -> None:
    assert client_frames.decode_server('{"type":"ping","mood":"good"}') == client_frames.Ping()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"type":"nix"}', "{}", '{"type":"gap"}', "\ud800", "[" * 100_000]
)
def test_what_is_no_frame_of_the_server_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        client_frames.decode_server(text)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"type":"nix"}', '{"id":null}', "\ud800"])
def test_what_is_no_frame_of_the_client_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        client_frames.decode_client(text)


@pytest.mark.parametrize("start", ["[", '{"a":', '["\\ud83d",'])
@pytest.mark.parametrize("decode", [client_frames.decode_client, client_frames.decode_server])
def test_what_is_nested_too_deeply_is_named_in_our_words(
    decode: Callable[[str], object], start: str
) -> None:
    with pytest.raises(ValueError, match="the JSON is nested too deeply"):
        decode(f'{{"id": 1, "data": {start * 5000}')
