"""What a worker left behind goes back on its queue, of a real Redis."""

from typing import Any

import pytest
from kombu.exceptions import OperationalError

from queue_run.broker.celery_app import create_celery
from queue_run.cli.development.processes.jobs_worker import put_back
from queue_run.settings import Settings
from tests.processes import RedisServer, free_port


def test_what_was_taken_and_not_acknowledged_is_handed_out_again(
    redis_server: RedisServer, namespace: str
) -> None:
    settings = Settings(redis_url=redis_server.url, namespace=namespace)
    client = redis_server.client()
    app = create_celery(settings)
    for job in ("first", "second"):
        app.send_task("queues.mail", args=[job], task_id=job)
    connection = app.connection_for_write()
    channel: Any = connection.default_channel
    taken = [channel.basic_get(f"{namespace}.jobs", no_ack=False) for _ in range(2)]
    assert None not in taken
    # As one that is killed: it puts nothing back.
    channel.qos._delivered.clear()
    assert client.llen(f"{namespace}.jobs") == 0
    assert client.zcard(f"{namespace}.unacked_index") == 2

    assert put_back(settings) == 2

    assert client.llen(f"{namespace}.jobs") == 2
    assert client.zcard(f"{namespace}.unacked_index") == 0
    assert put_back(settings) == 0
    connection.release()


def test_a_broker_that_is_away_is_an_error() -> None:
    with pytest.raises((OperationalError, OSError)):
        put_back(Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0", publish_timeout=0.2))
