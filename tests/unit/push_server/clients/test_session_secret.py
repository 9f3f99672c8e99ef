"""The secret that push servers share by way of Redis."""

import logging

import pytest
import redis.asyncio

from push_server.clients.session_secret import SharedSecret, agree, new_secret
from push_server.clients.sessions import Seals
from queue_run.contracts.ids import UserId
from queue_run.contracts.keys import Keys

ANN = UserId("ann")


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


async def test_all_push_servers_seal_alike(redis_url: str, keys: Keys) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        servers = [Seals(new_secret()) for _ in range(3)]
        for each in servers:
            await agree(client, keys, each)
        assert len({each.secret for each in servers}) == 1
        session = servers[0].new(ANN)
        assert all(each.made(session, ANN) for each in servers)


async def test_when_redis_has_lost_it_each_puts_it_back(redis_url: str, keys: Keys) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        seals = Seals(new_secret())
        await agree(client, keys, seals)
        secret = seals.secret
        await client.delete(keys.session_secret)
        await agree(client, keys, seals)
        assert await client.get(keys.session_secret) == secret == seals.secret


async def test_where_another_was_quicker_both_are_known(redis_url: str, keys: Keys) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        old = Seals(new_secret())
        await agree(client, keys, old)
        before = old.new(ANN)
        await client.delete(keys.session_secret)
        fresh = Seals(new_secret())
        await agree(client, keys, fresh)
        await agree(client, keys, old)
        assert old.secret == fresh.secret
        assert old.made(before, ANN)
        assert old.made(fresh.new(ANN), ANN)


@pytest.mark.parametrize("found", [b"", b"short"])
async def test_what_is_no_secret_is_not_used_and_told(
    redis_url: str, keys: Keys, found: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.set(keys.session_secret, found)
        seals = Seals(new_secret())
        own = seals.secret
        await agree(client, keys, seals)
    assert seals.secret == own
    assert "delete that key" in caplog.text


async def test_no_secret_is_logged(
    redis_url: str, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        servers = [Seals(new_secret()) for _ in range(2)]
        secrets = {each.secret.decode() for each in servers}
        for each in servers:
            await agree(client, keys, each)
    # fakeredis says everything.
    said = [each.getMessage() for each in caplog.records if each.name.startswith("push_server")]
    assert said
    assert not any(secret in line for secret in secrets for line in said)


async def test_a_secret_of_the_settings_is_used_and_told_to_nobody(
    redis_url: str, keys: Keys
) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        given = SharedSecret(client, keys, "a secret of the settings")
        await given.agree()
        assert given.seals.secret == b"a secret of the settings"
        assert not await client.exists(keys.session_secret)
        shared = SharedSecret(client, keys, "")
        await shared.agree()
        assert await client.get(keys.session_secret) == shared.seals.secret
