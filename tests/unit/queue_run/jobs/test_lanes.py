"""Names of lanes; what happens in them is in tests/contract/test_lanes.py."""

import pytest

from queue_run.jobs.envelopes import JobEnvelope, JobFacts
from queue_run.jobs.lanes import Lane, Lanes, Next
from queue_run.settings import Settings
from queue_run.storage.scripts import Store


@pytest.mark.parametrize(
    "lane",
    [Lane("mail", "ann"), Lane("a.b", "7"), Lane("mail", "a:b:"), Lane("mail", "ü \n")],
    ids=repr,
)
def test_a_lane_is_known_again_by_its_name(lane: Lane) -> None:
    assert Lane.parse(lane.name) == lane


def test_lanes_of_different_groups_have_different_names() -> None:
    lanes = [Lane("a", "b:c"), Lane("a.b", "c"), Lane("a", "b"), Lane("b", "a")]
    assert len({lane.name for lane in lanes}) == len(lanes)


def test_a_group_may_have_any_name(fake_redis_url: str, namespace: str) -> None:
    settings = Settings(redis_url=fake_redis_url, namespace=namespace)
    store = Store(settings, patience=5)
    lanes = Lanes(store, lease=60)
    for group in ("a b", "a\n1 b ", "ü", "*", "x" * 1000):
        job = JobEnvelope(id="an-id", queue="fifo", payload=1, facts=JobFacts(group=group))
        assert lanes.push(job, "same").job_id == "an-id"
        drain = lanes.drain(Lane("fifo", group), "drain", most=1)
        found = drain.advance()
        assert (found.step, found.job) == ("run", job)
        assert drain.advance(done="an-id") == Next("empty")
    store.close()
