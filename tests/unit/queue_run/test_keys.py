"""Names in Redis and on the broker: other processes rely on them to the letter."""

from queue_run.ids import ServerId
from queue_run.keys import JOB_TASK_PREFIX, REQUESTS_TASK, Keys


def test_names_begin_with_the_namespace() -> None:
    keys = Keys("shop")
    assert keys.broadcast == "shop:broadcast"
    assert keys.manifest == "shop:manifest"
    assert keys.socket_workers == "shop:workers:sockets"
    assert keys.sockets_queue == "shop.sockets"
    assert keys.jobs_queue == "shop.jobs"
    assert keys.server(ServerId("ab12")) == "shop:server:ab12"


def test_two_namespaces_share_no_name() -> None:
    assert not set(vars(Keys("a")).values()) & set(vars(Keys("b")).values())


def test_tasks_keep_their_names() -> None:
    assert (REQUESTS_TASK, JOB_TASK_PREFIX) == ("queue_run.requests", "queues.")
