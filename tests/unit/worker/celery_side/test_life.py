"""The start of a worker; its whole life is in tests/acceptance."""

import threading

import pytest

from queue_run.settings import Settings
from tests.processes import RedisServer
from tests.waiting import DEADLINE, eventually
from worker.celery_side.life import EXIT_FAILURE, require_redis


def test_a_worker_without_its_channel_ends_and_says_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        require_redis(Settings(redis_url="redis://ann:hush@127.0.0.1:1/0"))
    assert caught.value.code == EXIT_FAILURE
    told = capsys.readouterr().err
    assert "start it, or set REDIS_URL" in told
    assert "hush" not in told


def test_a_redis_that_does_not_do_its_part_yet_is_waited_for(
    own_redis: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(redis_url=own_redis.url)
    with own_redis.client() as admin:
        admin.config_set("maxclients", "1")
        waiting = threading.Thread(target=require_redis, args=(settings,))
        waiting.start()
        told = ""

        def says_so() -> bool:
            nonlocal told
            told += capsys.readouterr().err
            return "max number of clients" in told

        eventually(says_so, what="a line that says so")
        admin.config_set("maxclients", "100")
    waiting.join(DEADLINE)
    assert not waiting.is_alive()


def test_a_worker_with_its_channel_starts(fake_redis_url: str) -> None:
    require_redis(Settings(redis_url=fake_redis_url))
