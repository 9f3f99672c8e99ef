"""Names in Redis and on the broker: other processes rely on them to the letter."""

from queue_run.ids import ServerId
from queue_run.keys import DRAIN_TASK, JOB_TASK_PREFIX, REQUESTS_TASK, Keys


def test_names_begin_with_the_namespace() -> None:
    keys = Keys("shop")
    assert keys.broadcast == "shop:broadcast"
    assert keys.manifest == "shop:manifest"
    assert keys.socket_workers == "shop:workers:sockets"
    assert keys.sockets_queue == "shop.sockets"
    assert keys.jobs_queue == "shop.jobs"
    assert keys.server(ServerId("ab12")) == "shop:server:ab12"
    assert (keys.delayed, keys.delayed_jobs) == ("shop:delayed", "shop:delayed:jobs")
    assert (keys.dead, keys.dead_index) == ("shop:dead", "shop:dead:index")
    assert keys.lanes == "shop:lanes"
    assert keys.job("a") == "shop:job:a"
    assert keys.lane("mail:ann") == "shop:lane:mail:ann"
    assert keys.lane_lease("mail:ann") == "shop:lane-lease:mail:ann"
    assert keys.dedupe("mail:ann", "x") == "shop:dedupe:8:mail:ann:x"
    assert keys.sequence("mail") == "shop:sequence:mail"
    assert (keys.online, keys.leaving) == ("shop:online", "shop:leaving")
    assert (keys.presence, keys.presence_lease) == ("shop:presence", "shop:presence-lease")
    assert keys.presence_sweeps == "shop:presence-sweeps"
    assert keys.users_of(ServerId("ab12")) == "shop:users:ab12"
    assert keys.celery_queue(None) == keys.jobs_queue
    assert keys.celery_queue("reports") == "shop.reports"


def test_what_users_choose_cannot_make_two_names_one() -> None:
    keys = Keys("shop")
    pairs = [("a:b", "c"), ("a", "b:c"), ("a:", "b:c"), ("", "a:b:c"), ("3:a", "c")]
    assert len({keys.dedupe(*pair) for pair in pairs}) == len(pairs)


def test_two_namespaces_share_no_name() -> None:
    assert not set(vars(Keys("a")).values()) & set(vars(Keys("b")).values())


def test_tasks_keep_their_names() -> None:
    assert (REQUESTS_TASK, JOB_TASK_PREFIX) == ("queue_run.requests", "queues.")
    assert DRAIN_TASK == "queue_run.drain"
