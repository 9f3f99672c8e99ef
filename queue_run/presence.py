"""Presence: how Redis keeps who is online, and how that is changed and asked.

Each push server tells Redis the users that have connections there. Redis counts the push servers of
each user. The first one makes the user online. A user without any is leaving, and is offline some
seconds later. Every change is one script. The same script also records the event for the
application, so that neither happens without the other. Each script may be sent twice.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

from queue_run.contracts.ids import ServerId, UserId
from queue_run.contracts.keys import Keys
from queue_run.errors import ChannelUnavailable, JobStoreUnavailable
from queue_run.settings import Settings
from queue_run.storage.script_files import Script, load
from queue_run.storage.scripts import Store, milliseconds

#: The largest number of users in one script, or one question: Redis does nothing else meanwhile.
AT_ONCE = 500

#: Answers of scripts. DONE: there is nothing more to do. MORE: there may be more to do. UNKNOWN:
#: Redis does not know the push server that sent the script; it has to register.
DONE, MORE, UNKNOWN = 0, 1, -1

_REGISTER = load("presence/register")
_ARRIVE = load("presence/arrive")
_DEPART = load("presence/depart")
_SWEEP = load("presence/sweep")
_RETIRE = load("presence/retire")


class ScriptCall(NamedTuple):
    """A script with its keys and arguments."""

    script: Script
    keys: list[str]
    arguments: list[str | int]


class Scripts:
    """The scripts by which one push server changes presence.

    Each script gives DONE, MORE or UNKNOWN; only `register` gives something else.
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

    def register(self, new_epoch: str) -> ScriptCall:
        """Register the push server.

        The script gives the server's last heartbeat in Redis (milliseconds), and the epoch of
        Redis' data. The heartbeat is None for a new server, and zero while the server's users are
        being taken offline.

        Args:
            new_epoch: the epoch to set where Redis has none.
        """
        return self._call(_REGISTER, new_epoch)

    def arrive(self, users: Sequence[UserId], *, watched: bool, silent: bool = False) -> ScriptCall:
        """Record that the users have connections on the push server now.

        Args:
            users: at most AT_ONCE.
            watched: True when the application wants to know who comes and goes.
            silent: True to record no event: the users were online before, and Redis has lost that.
        """
        return self._call(_ARRIVE, int(silent), *users, watched=watched)

    def depart(self, users: Sequence[UserId], *, watched: bool) -> ScriptCall:
        """Record that the users have left the push server. Arguments as for `arrive`."""
        return self._call(_DEPART, *users, watched=watched)

    def sweep(self, *, watched: bool) -> ScriptCall:
        """Record a heartbeat of the push server; take users offline whose `offline_delay` is over.

        Users of other push servers go offline too, when their server has left no heartbeat for
        `heartbeat_expiry` seconds.
        """
        return self._call(_SWEEP, watched=watched)

    def retire(self, *, watched: bool) -> ScriptCall:
        """Remove the push server, which ends, and take its users offline.

        When the server cannot send this script until the end, the sweeps of the other servers do
        the rest.
        """
        return self._call(_RETIRE, watched=watched)

    def _call(self, script: Script, *arguments: str | int, watched: bool = False) -> ScriptCall:
        common: list[str | int] = [self._server, self._users_of, int(watched)]
        common += [self._delay, self._expiry, AT_ONCE]
        return ScriptCall(script, self._keys, [*common, *arguments])


class Presence:
    """Asks Redis who is online. Safe to use from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def online(self, users: Sequence[UserId]) -> list[UserId]:
        """Ask which of the users have open connections, and return these, in the order given.

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
        """Ask whether the user has an open connection.

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
    """Split the users into lists of the size that one script takes."""
    every = list(users)
    return [every[start : start + AT_ONCE] for start in range(0, len(every), AT_ONCE)]
