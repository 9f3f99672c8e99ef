"""A Redis and its replica, which change places as on a planned failover, or after a crash."""

from typing import Any

from redis import Redis

from tests.processes import RedisServer
from tests.waiting import eventually

#: Seconds for which a node must have run, so that nobody takes it for one that has just restarted.
SETTLED = 3


class Replicas:
    """Two nodes, of which one takes writes."""

    def __init__(self) -> None:
        self.primary = RedisServer(append_only=True)
        try:
            self.replica = RedisServer(append_only=True)
        except BaseException:
            self.primary.end()
            raise
        self.follow()

    def follow(self, port: int | None = None) -> None:
        """Let the replica follow the primary, and wait until it has everything.

        Args:
            port: at which it finds the primary, for example that of a proxy.
        """
        with self.replica.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", port or self.primary.port)
        eventually(self._in_step, what="a replica that is in step")

    def fail_over(self) -> None:
        """Redis' own: the primary waits for its replica, and takes its place."""
        with self.primary.client() as client:
            client.execute_command("FAILOVER", "TO", "127.0.0.1", self.replica.port)
        self._change_places()
        eventually(lambda: self._role(self.primary) == "master", what="the other one's promotion")

    def promote(self, *, at_once: bool = False) -> None:
        """The primary is killed, and the replica takes its place, with what it has.

        Args:
            at_once: whether or not the replica has read what the primary had sent.
        """
        self.primary.kill()
        with self.replica.client() as client:
            if not at_once:
                eventually(lambda: _has_lost_primary(client), what="a replica that has noticed")
            client.execute_command("REPLICAOF", "NO", "ONE")
        self._change_places()

    def restore(self) -> None:
        """The one that was killed comes back, as the other one's replica."""
        self.replica.start()
        self.follow()

    def demote(self) -> None:
        """The primary becomes a replica of nobody who is there."""
        with self.primary.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")

    def promote_again(self) -> None:
        with self.primary.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")

    def end(self) -> None:
        for each in (self.primary, self.replica):
            each.end()

    def _change_places(self) -> None:
        self.primary, self.replica = self.replica, self.primary

    def _in_step(self) -> bool:
        with self.primary.client() as there, self.replica.client() as here:
            theirs: Any = there.info("replication")
            ours: Any = here.info()
        return bool(
            ours["role"] == "slave"
            and ours["master_link_status"] == "up"
            and ours["slave_repl_offset"] == theirs["master_repl_offset"]
            and ours["uptime_in_seconds"] >= SETTLED
        )

    def _role(self, server: RedisServer) -> str:
        with server.client() as client:
            info: Any = client.info("replication")
        return str(info["role"])


def _has_lost_primary(replica: Redis) -> bool:
    info: Any = replica.info("replication")
    return bool(info["master_link_status"] == "down")
