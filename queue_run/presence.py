"""Who is online: what Redis knows of it, and how that is changed and asked.

Each push server tells Redis the users that have connections there. Redis counts the servers of each
user: a first one makes the user online, and without any the user is leaving, and offline some
seconds later. Every change is one script, which also writes down what the application is to be told
of, so that neither happens without the other. Each script may be sent twice.
"""

import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

from queue_run.contracts.ids import ServerId, UserId
from queue_run.contracts.keys import Keys
from queue_run.errors import ChannelUnavailable, JobStoreUnavailable
from queue_run.settings import Settings
from queue_run.storage.scripts import NOW, Store, milliseconds

#: Users that one script, or one question, is about: Redis does nothing else meanwhile.
AT_ONCE = 500
#: Users who came and went whom no worker has looked at, about; beyond it the oldest are forgotten.
MAX_EVENTS = 100_000

#: Answers of scripts: there is nothing more to do; there may be more; Redis does not know the
#: server that sent it, which has to register.
DONE, MORE, UNKNOWN = 0, 1, -1

#: Begins every script.
_PROLOGUE = (
    NOW
    + f"""
local servers, online, leaving, events, epoch, sweeps = unpack(KEYS)
local server, users_of, watched = ARGV[1], ARGV[2], ARGV[3] == '1'
local delay, expiry, limit = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local FIRST = 7

-- A score of zero is that of a server whose users are being taken offline.
local function is_known()
    return tonumber(redis.call('ZSCORE', servers, server) or 0) > 0
end

-- In a full Redis the first write of a script decides whether it runs: here one that frees. Signs
-- of life and departures are taken there; arrivals are not.
local function note(score, name)
    redis.call('ZREM', servers, name)
    redis.call('ZADD', servers, score, name)
end

local function report(user, is_online)
    redis.call('XADD', events, 'MAXLEN', '~', {MAX_EVENTS}, '*', 'user', user, 'online', is_online)
end

local function depart(user)
    if redis.call('HINCRBY', online, user, -1) > 0 then return end
    redis.call('HDEL', online, user)
    if watched then redis.call('ZADD', leaving, now + delay, user) end
end

-- Take some of a server's users offline; the server is removed with the last of them.
local function take_down(lost)
    note(0, lost)
    local users = redis.call('SPOP', users_of .. lost, limit)
    for _, user in ipairs(users) do depart(user) end
    if #users == limit then return {MORE} end
    redis.call('ZREM', servers, lost)
    return {DONE}
end
"""
)

_REGISTER = (
    _PROLOGUE
    + """
local score = redis.call('ZSCORE', servers, server)
note(now, server)
redis.call('SET', epoch, ARGV[FIRST], 'NX')
return {score, redis.call('GET', epoch)}
"""
)

_ARRIVE = (
    _PROLOGUE
    + f"""
if not is_known() then return {UNKNOWN} end
local silent = ARGV[FIRST] == '1'
for number = FIRST + 1, #ARGV do
    local user = ARGV[number]
    if redis.call('SADD', users_of .. server, user) == 1
            and redis.call('HINCRBY', online, user, 1) == 1
            and redis.call('ZREM', leaving, user) == 0
            and watched and not silent then
        report(user, 1)
    end
end
return {DONE}
"""
)

_DEPART = (
    _PROLOGUE
    + f"""
if not is_known() then return {UNKNOWN} end
for number = FIRST, #ARGV do
    if redis.call('SREM', users_of .. server, ARGV[number]) == 1 then depart(ARGV[number]) end
end
return {DONE}
"""
)

_SWEEP = (
    _PROLOGUE
    + f"""
if not is_known() then return {UNKNOWN} end
note(now, server)

-- While Redis was away or stood still, nobody could leave a heartbeat: silence counts only from
-- when sweeps have come regularly again.
local last = tonumber(redis.call('HGET', sweeps, 'last') or 0)
local since = tonumber(redis.call('HGET', sweeps, 'since') or 0)
if now - last > expiry / 2 or since > now then since = now end
redis.call('HSET', sweeps, 'last', now, 'since', since)

local gone = redis.call('ZRANGEBYSCORE', leaving, '-inf', now, 'LIMIT', 0, limit)
for _, user in ipairs(gone) do
    redis.call('ZREM', leaving, user)
    if watched then report(user, 0) end
end
local answer = #gone == limit and {MORE} or {DONE}

local silent_since = now - since >= expiry and now - expiry or 0
local lost = redis.call('ZRANGEBYSCORE', servers, '-inf', silent_since, 'LIMIT', 0, 2)
if #lost > 0 then
    answer = math.max(answer, take_down(lost[1]), #lost > 1 and {MORE} or {DONE})
end
return answer
"""
)

_RETIRE = (
    _PROLOGUE
    + f"""
if not redis.call('ZSCORE', servers, server) then return {DONE} end
return take_down(server)
"""
)


class Call(NamedTuple):
    """A script and what it is given."""

    script: str
    keys: list[str]
    arguments: list[str | int]

    @property
    def sha(self) -> str:
        """The name under which Redis knows the script."""
        return _sha(self.script)


class Scripts:
    """The changes of one push server.

    Each gives DONE, MORE or UNKNOWN, but for `register`.
    """

    def __init__(self, settings: Settings, server: ServerId) -> None:
        keys = Keys(settings.namespace)
        self._keys = [
            keys.push_servers,
            keys.online,
            keys.leaving,
            keys.presence,
            keys.epoch,
            keys.presence_sweeps,
        ]
        self._server = server
        self._users_of = keys.users_of(ServerId(""))
        self._delay = milliseconds(settings.offline_delay)
        self._expiry = milliseconds(settings.heartbeat_expiry)

    def register(self, new_epoch: str) -> Call:
        """Make the server known.

        Gives its last heartbeat in Redis, if any (zero when its users are being taken offline), and
        the epoch of Redis' data.

        Args:
            new_epoch: where there is none.
        """
        return self._call(_REGISTER, new_epoch)

    def arrive(self, users: Sequence[UserId], *, watched: bool, silent: bool = False) -> Call:
        """The users have connections on the server now.

        Args:
            users: at most AT_ONCE.
            watched: whether the application is told of who comes and goes.
            silent: not of these: it was before, and Redis has lost it.
        """
        return self._call(_ARRIVE, int(silent), *users, watched=watched)

    def depart(self, users: Sequence[UserId], *, watched: bool) -> Call:
        """The users have no connection on the server any more. Arguments as for `arrive`."""
        return self._call(_DEPART, *users, watched=watched)

    def sweep(self, *, watched: bool) -> Call:
        """The server lives; who has been away for long enough is gone, and so are the users of
        servers that have not said so for `heartbeat_expiry` seconds."""
        return self._call(_SWEEP, watched=watched)

    def retire(self, *, watched: bool) -> Call:
        """The server ends, and all its users have left it. What it does not get to do itself, the
        sweeps of the others do."""
        return self._call(_RETIRE, watched=watched)

    def _call(self, script: str, *arguments: str | int, watched: bool = False) -> Call:
        common: list[str | int] = [self._server, self._users_of, int(watched)]
        common += [self._delay, self._expiry, AT_ONCE]
        return Call(script, self._keys, [*common, *arguments])


class Presence:
    """Asks Redis who is online; from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def online(self, users: Sequence[UserId]) -> list[UserId]:
        """Those of the users that have open connections, in the order given.

        Raises:
            ChannelUnavailable: when Redis does not answer in time.
        """
        found: list[UserId] = []
        for start in range(0, len(users), AT_ONCE):
            some = users[start : start + AT_ONCE]
            for user, servers in zip(some, self._ask(some), strict=True):
                if servers is not None:
                    found.append(user)
        return found

    def is_online(self, user: UserId) -> bool:
        """Whether the user has an open connection.

        Raises:
            ChannelUnavailable: when Redis does not answer in time.
        """
        return bool(self.online([user]))

    def _ask(self, users: Sequence[UserId]) -> list[Any]:
        store = self._store
        key = store.keys.online
        try:
            return cast("list[Any]", store.patiently(lambda: store.client.hmget(key, list(users))))
        except JobStoreUnavailable as error:
            raise ChannelUnavailable(str(error)) from error


@functools.cache
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def chunks(users: Iterable[UserId]) -> Iterable[list[UserId]]:
    """The users in lists that one script takes."""
    every = list(users)
    return [every[start : start + AT_ONCE] for start in range(0, len(every), AT_ONCE)]
