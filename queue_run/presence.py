"""Who is online: what Redis knows of it, and how that is changed and asked.

Each push server tells Redis the users that have connections there. Redis counts the servers of each
user: a first one makes the user online, and without any the user is leaving, and offline some
seconds later. Every change is one script, which also writes down what the application is to be told
of, so that neither happens without the other. Each script may be sent twice.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

from queue_run.contracts.ids import ServerId, UserId
from queue_run.contracts.keys import Keys
from queue_run.errors import ChannelUnavailable, JobStoreUnavailable
from queue_run.settings import Settings
from queue_run.storage.script_files import Script, load
from queue_run.storage.scripts import Store, milliseconds

#: Users that one script, or one question, is about: Redis does nothing else meanwhile.
AT_ONCE = 500

#: Answers of scripts: there is nothing more to do; there may be more; Redis does not know the
#: server that sent it, which has to register.
DONE, MORE, UNKNOWN = 0, 1, -1

_REGISTER = load("presence/register")
_ARRIVE = load("presence/arrive")
_DEPART = load("presence/depart")
_SWEEP = load("presence/sweep")
_RETIRE = load("presence/retire")


class Call(NamedTuple):
    """A script and what it is given."""

    script: Script
    keys: list[str]
    arguments: list[str | int]


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

    def _call(self, script: Script, *arguments: str | int, watched: bool = False) -> Call:
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


def chunks(users: Iterable[UserId]) -> Iterable[list[UserId]]:
    """The users in lists that one script takes."""
    every = list(users)
    return [every[start : start + AT_ONCE] for start in range(0, len(every), AT_ONCE)]
