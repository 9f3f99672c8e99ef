"""Names of groups; what happens in them is in tests/contract/test_lanes.py."""

import pytest

from queue_run.jobs.groups import Group, Groups, Next
from queue_run.jobs.stored import JobFacts, StoredJob
from queue_run.settings import Settings
from queue_run.storage.scripts import Store


@pytest.mark.parametrize(
    "group",
    [Group("mail", "ann"), Group("a.b", "7"), Group("mail", "a:b:"), Group("mail", "ü \n")],
    ids=repr,
)
def test_a_group_is_known_again_by_its_name(group: Group) -> None:
    assert Group.parse(group.name) == group


def test_groups_of_different_groups_have_different_names() -> None:
    groups = [Group("a", "b:c"), Group("a.b", "c"), Group("a", "b"), Group("b", "a")]
    assert len({group.name for group in groups}) == len(groups)


def test_a_group_may_have_any_name(fake_redis_url: str, namespace: str) -> None:
    settings = Settings(redis_url=fake_redis_url, namespace=namespace)
    store = Store(settings, patience=5)
    groups = Groups(store, lease=60)
    for group in ("a b", "a\n1 b ", "ü", "*", "x" * 1000):
        job = StoredJob(id="an-id", queue="fifo", payload=1, facts=JobFacts(group=group))
        assert groups.push(job, "same").job_id == "an-id"
        drain = groups.drain(Group("fifo", group), "drain", most=1)
        found = drain.advance()
        assert (found.step, found.job) == ("run", job)
        assert drain.advance(done="an-id") == Next("empty")
    store.close()
