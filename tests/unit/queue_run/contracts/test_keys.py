"""Names in Redis and on the broker: other processes rely on them to the letter."""

import inspect

from queue_run.broker.celery_app import create_celery
from queue_run.contracts.ids import ServerId
from queue_run.contracts.keys import DRAIN_TASK, JOB_TASK_PREFIX, REQUESTS_TASK, RESERVED, Keys
from queue_run.settings import Settings


def test_names_begin_with_the_namespace() -> None:
    keys = Keys("shop")
    assert keys.broadcast == "shop:broadcast"
    assert keys.manifest == "shop:manifest"
    assert keys.socket_workers == "shop:workers:sockets"
    assert keys.load_failure == "shop:load-failure"
    assert keys.sockets_queue == "shop.sockets"
    assert keys.jobs_queue == "shop.jobs"
    assert keys.server(ServerId("ab12")) == "shop:server:ab12"
    assert (keys.delayed, keys.delayed_jobs) == ("shop:delayed", "shop:delayed:jobs")
    assert (keys.dead, keys.dead_index) == ("shop:dead", "shop:dead:index")
    assert keys.groups == "shop:lanes"
    assert keys.job("a") == "shop:job:a"
    assert keys.group("mail:ann") == "shop:lane:mail:ann"
    assert keys.group_lease("mail:ann") == "shop:lane-lease:mail:ann"
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


def test_however_long_a_group_and_its_dedupe_id_are_their_key_is_short() -> None:
    keys = Keys("shop")
    pairs = [("a" * 9000, "b"), ("a", "b" * 9000), ("a" * 9000, "c"), ("a\ud83d" * 900, "b")]
    named = {keys.dedupe(*pair) for pair in pairs}
    assert len(named) == len(pairs)
    assert all(len(each) < 100 for each in named)
    assert keys.dedupe(*pairs[0]) == keys.dedupe(*pairs[0])
    # Nobody can name a group so that it is the hash of another.
    assert all(each.startswith("shop:dedupe:h") for each in named)
    assert not keys.dedupe("h", "h").startswith("shop:dedupe:h")


def fixed() -> set[str]:
    """Every name that is made of the namespace alone."""
    return {name for name in vars(Keys("shop")).values() if name != "shop"}


def test_no_celery_queue_of_a_file_is_something_else_of_ours() -> None:
    """A new name that begins with `<namespace>.` is reserved by being one of `Keys`."""
    behind = {name.removeprefix("shop.") for name in fixed() if name.startswith("shop.")}
    assert {name.removesuffix(":") for name in behind} <= RESERVED
    assert {"unacked", "unacked_index", "unacked_mutex", "sockets", "jobs", "bell"} <= RESERVED
    # What stands behind a colon is out of reach, since no name of a queue has one.
    assert all(name.startswith(("shop.", "shop:")) for name in fixed())


def test_what_is_made_of_something_is_nothing_that_is_fixed() -> None:
    keys = Keys("shop")
    made = {
        name: getattr(keys, name)(*("" for _ in inspect.signature(getattr(keys, name)).parameters))
        for name, _ in inspect.getmembers(Keys, inspect.isfunction)
        if not name.startswith("_") and name != "celery_queue"
    }
    assert len(made) > 5
    for name, prefix in made.items():
        start = prefix.rstrip("0123456789:") + ":"
        assert not [each for each in fixed() if each.startswith(start)], name


def test_celerys_keys_are_among_those_that_are_reserved() -> None:
    conf = create_celery(Settings(namespace="shop")).conf
    options = conf.broker_transport_options
    assert {each for name, each in options.items() if name.endswith("_key")} <= fixed()
    assert {conf.control_exchange, conf.event_exchange, conf.redbeat_key_prefix} <= fixed()


def test_two_namespaces_share_no_name() -> None:
    assert not set(vars(Keys("a")).values()) & set(vars(Keys("b")).values())


def test_tasks_keep_their_names() -> None:
    assert (REQUESTS_TASK, JOB_TASK_PREFIX) == ("queue_run.requests", "queues.")
    assert DRAIN_TASK == "queue_run.drain"
