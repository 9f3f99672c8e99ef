"""The load notes what a client would not tell."""

import msgspec

from queue_run.contracts.client_frames import Reply, ServerFrame, Welcome, encode
from tests.faults.checker import Requests
from tests.faults.load import _Watched

WELCOME = Welcome(
    connection="a-1",
    session="secret",
    user="ann",
    offset="1-0",
    epoch="first",
    heartbeat=25_000,
    resume=60_000,
)


def test_a_second_outcome_is_counted_though_the_client_drops_it() -> None:
    requests = Requests()
    protocol = _Watched(requests)

    def hear(frame: ServerFrame) -> int:
        return len(protocol.receive(encode(frame), 0.0))

    protocol.opened()
    hear(WELCOME)
    number = protocol.request({"number": 1})
    reply = Reply(id=number, data=msgspec.Raw(b"1"))
    assert (hear(reply), requests.told_again) == (1, 0)
    assert (hear(reply), requests.told_again) == (0, 1)
