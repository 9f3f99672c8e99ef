"""Which Redis answers, by what Redis says of itself."""

from typing import Any

import pytest

from queue_run.channel.nodes import Node, Succession, parse

NONE = "0" * 40
INFO = b"""# Server\r
redis_version:7.0.15\r
run_id:r1\r
tcp_port:6379\r
uptime_in_seconds:77\r
# Replication\r
role:master\r
connected_slaves:1\r
slave0:ip=127.0.0.1,port=6380,state=online,offset=14,lag=1\r
master_replid:h1\r
master_replid2:h0\r
master_repl_offset:14\r
second_repl_offset:5\r
"""

OLD = Node("old", 100, True, "h1", 500, NONE, -2)
AWAY = 3.0


def promoted(**changes: Any) -> Node:
    return Node("new", 90, True, "h2", 520, "h1", 500)._replace(**changes)


def demoted(**changes: Any) -> Node:
    return OLD._replace(is_primary=False, **changes)


def doubted(*nodes: Node, away: float = AWAY) -> str | None:
    succession = Succession()
    for node in nodes:
        succession.meet(node, away=away)
    return succession.doubtful


def test_info_is_read() -> None:
    assert parse(INFO) == Node("r1", 77, True, "h1", 14, "h0", 4)
    assert parse(INFO.replace(b"role:master", b"role:slave")) == Node(
        "r1", 77, False, "h1", 14, "h0", 4
    )


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", INFO.replace(b"run_id", b"id"), INFO[:60]])
def test_info_that_says_too_little_is_no_node(text: bytes) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param([OLD], id="the first"),
        pytest.param([promoted(), promoted()], id="the same"),
        pytest.param([OLD, demoted()], id="a replica is no primary yet"),
        pytest.param([OLD, demoted(), promoted()], id="it had everything"),
        pytest.param(
            [OLD, demoted(history="h2", former="h1", former_end=500, reached=510), promoted()],
            id="the old one follows it already",
        ),
        pytest.param(
            [OLD, demoted(), OLD._replace(history="h3", former="h1", former_end=500)],
            id="demoted, and promoted again",
        ),
        pytest.param([OLD, Node("new", 2, True, "h2", 0, NONE, -2)], id="started again"),
        pytest.param([OLD, Node("new", 4, True, "h2", 0, "h1", 480)], id="started from a snapshot"),
    ],
)
def test_nothing_is_lost(nodes: list[Node]) -> None:
    assert doubted(*nodes) is None


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param([OLD, promoted()], id="nobody knows where the old one ended"),
        pytest.param([OLD, demoted(reached=501), promoted()], id="it had less"),
        pytest.param([OLD, demoted(reached=501), promoted(uptime=1)], id="it is new, and had less"),
        pytest.param(
            [OLD, demoted(history="h2", former=NONE, former_end=-2), promoted()],
            id="the old one's data were replaced",
        ),
        pytest.param([OLD, demoted(run="another"), promoted()], id="another replica"),
        pytest.param([OLD, promoted(former=NONE, former_end=-2)], id="a stranger"),
        pytest.param([OLD, demoted(), promoted(former="h9")], id="another one's replica"),
        pytest.param(
            [OLD, OLD._replace(history="h3", former="h2", former_end=510)],
            id="the same, by way of another one's history",
        ),
    ],
)
def test_something_may_be_lost(nodes: list[Node]) -> None:
    assert doubted(*nodes) == nodes[-1].history


def test_what_may_be_lost_stays_so_until_it_is_looked_into() -> None:
    succession = Succession()
    for node in (OLD, promoted(), promoted()):
        succession.meet(node, away=AWAY)
    assert succession.doubtful == "h2"
    succession.doubtful = None
    succession.meet(promoted(), away=AWAY)
    assert succession.doubtful is None


def test_where_one_primary_ended_says_nothing_of_the_next() -> None:
    third = Node("third", 90, True, "h3", 600, "h2", 550)
    assert doubted(OLD, demoted(), promoted(), third) == "h3"
