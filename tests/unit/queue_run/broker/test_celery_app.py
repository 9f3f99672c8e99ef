"""The Celery application that all processes share."""

import pytest

from queue_run.broker.celery_app import create_celery, is_redis, jobs_queue
from queue_run.settings import Settings

REDIS = Settings(redis_url="redis://127.0.0.1:1/0", namespace="shop")


def test_requests_and_jobs_have_queues_of_their_own() -> None:
    queues = {queue.name: queue for queue in create_celery(REDIS).conf.task_queues}
    assert queues.keys() == {"shop.sockets", "shop.jobs"}


def test_requests_are_not_acknowledged_and_jobs_are() -> None:
    queues = {queue.name: queue for queue in create_celery(REDIS).conf.task_queues}
    assert queues["shop.sockets"].no_ack
    assert not queues["shop.jobs"].no_ack


def test_a_task_goes_to_the_jobs_unless_it_carries_requests() -> None:
    router = create_celery(REDIS).amqp.router
    assert router.route({}, "queues.mail")["queue"].name == "shop.jobs"
    assert router.route({}, "some.shared.task")["queue"].name == "shop.jobs"
    assert router.route({}, "queue_run.requests")["queue"].name == "shop.sockets"


def test_only_json_is_written_and_read() -> None:
    conf = create_celery(REDIS).conf
    assert conf.accept_content == ["json"]
    assert conf.task_serializer == "json"
    assert conf.task_ignore_result is True


def test_the_broker_is_that_of_the_settings() -> None:
    settings = Settings(redis_url="unix:///run/redis.sock")
    assert create_celery(settings).conf.broker_url == "redis+socket:///run/redis.sock"


def test_it_is_not_the_current_application_of_the_process() -> None:
    import celery

    assert celery.current_app.main != create_celery(REDIS).main


def test_applications_that_share_a_redis_do_not_take_each_others_jobs() -> None:
    one, two = (
        create_celery(Settings(namespace=name, visibility_timeout=77)).conf.broker_transport_options
        for name in ("one", "two")
    )
    for key in ("unacked_key", "unacked_index_key", "unacked_mutex_key", "unreadable_key"):
        assert one[key] != two[key]


def test_a_job_that_is_not_acknowledged_comes_back_when_the_settings_say() -> None:
    options = create_celery(Settings(visibility_timeout=77)).conf.broker_transport_options
    assert options["visibility_timeout"] == 77


def test_a_worker_takes_no_more_jobs_than_it_runs() -> None:
    assert create_celery(REDIS).conf.worker_prefetch_multiplier == 1


@pytest.mark.parametrize(
    ("name", "full_name"), [(None, "shop.jobs"), ("reports", "shop.reports"), ("jobs", "shop.jobs")]
)
def test_the_celery_queue_of_a_file_is_one_of_the_namespace(
    name: str | None, full_name: str
) -> None:
    queue = jobs_queue(create_celery(REDIS), name)
    assert (queue.name, queue.routing_key) == (full_name, full_name)
    assert (queue.exchange.name, queue.exchange.type) == ("shop", "direct")


@pytest.mark.parametrize(
    ("broker", "expected"),
    [
        *(("", True), ("redis://a/1", True), ("rediss://a/1", True)),
        *(("unix:///run/redis.sock", True), ("amqp://a", False)),
    ],
)
def test_redis_is_known_as_the_broker(broker: str, expected: bool) -> None:
    assert is_redis(Settings(broker_url=broker)) is expected


def test_a_broker_other_than_redis_gets_no_options_of_redis() -> None:
    settings = Settings(broker_url="amqp://rabbit.example", namespace="shop")
    options = create_celery(settings).conf.broker_transport_options
    assert options.keys() == {"confirm_publish", "answer_time", "socket_settings"}


def test_a_broker_of_another_kind_gets_no_options_at_all() -> None:
    settings = Settings(broker_url="memory://", namespace="shop")
    assert create_celery(settings).conf.broker_transport_options == {}


def test_a_broker_that_is_away_is_waited_for_and_jobs_run_on_meanwhile() -> None:
    conf = create_celery(REDIS).conf
    assert conf.broker_connection_retry_on_startup is True
    assert conf.broker_connection_max_retries is None
    assert conf.worker_cancel_long_running_tasks_on_connection_loss is False


@pytest.mark.parametrize(("seconds", "retries"), [(5.0, 10), (0.1, 1)])
def test_a_push_is_tried_for_as_long_as_the_settings_say(seconds: float, retries: int) -> None:
    conf = create_celery(Settings(publish_timeout=seconds)).conf
    # A second try fits in.
    assert conf.broker_connection_timeout == seconds / 2
    assert conf.task_publish_retry_policy["max_retries"] == retries


def test_what_a_killed_worker_held_is_looked_for_every_second() -> None:
    options = create_celery(REDIS).conf.broker_transport_options
    assert options["unacked_restore_interval"] == 1
    assert options["unacked_restore_throttle"] == 1


def test_tasks_send_no_events_unless_asked() -> None:
    assert create_celery(REDIS).conf.worker_send_task_events is False


def test_remote_control_of_several_applications_stays_apart() -> None:
    conf = create_celery(REDIS).conf
    assert (conf.control_exchange, conf.event_exchange) == ("shop.control", "shop.events")
