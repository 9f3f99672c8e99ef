"""What stands between a message and its answer."""

from push_server.http.readiness import BROKER_SILENCE
from queue_run.channel.listener import State
from tests.unit.push_server.building import INDEX, PushServerParts, readiness_of


async def test_what_is_missing_is_named() -> None:
    parts = PushServerParts(INDEX)
    lifetime, listener, readiness = readiness_of(parts)
    assert readiness.missing() == ["workers"]
    await parts.application.refresh()
    assert readiness.missing() == []
    listener._state = State.AWAY
    assert readiness.missing() == ["Redis"]
    listener._state = State.READING
    parts.dispatcher.silence_for(BROKER_SILENCE)
    assert readiness.missing() == ["broker"]
    parts.dispatcher.silence_for(0)
    parts.fullness.refused()
    assert readiness.missing() == ["room in Redis: it is full (maxmemory)"]
    parts.fullness.taken()
    lifetime.end()
    assert readiness.missing() == ["shutting down"]


async def test_a_part_that_was_lost_is_named_first() -> None:
    parts = PushServerParts(INDEX)
    await parts.application.refresh()
    lifetime, _, readiness = readiness_of(parts)
    lifetime.lose("hub")
    assert readiness.missing() == ["hub, which ended unexpectedly", "shutting down"]
