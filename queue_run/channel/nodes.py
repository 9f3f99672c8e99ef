"""Telling Redis nodes apart, and whether a new primary has all that the old one had. Pure.

The address of Redis may stand for another node from one link to the next: a replica was promoted.
A replica follows behind its primary, so the last entries that a primary took may be nowhere after
that, and no stream shows it. What Redis tells of itself (INFO) does:

    Each primary has a history (`master_replid`). A replica that is promoted begins a new one, and
    still names the one before (`master_replid2`) and where that ended for it
    (`second_repl_offset`).

So whoever knows how far the old primary's history went, after that one took no more writes, can
tell whether the new primary has had all of it. It is known when the old primary answered as a
replica once more: that is the case on a planned failover.
"""

from typing import NamedTuple

#: Seconds by which Redis may say that it has run for longer than it has: it counts whole ones.
ROUNDING = 1.0


class Node(NamedTuple):
    """The facts that a Redis node reports of itself."""

    #: Changes whenever its process is started.
    run: str
    #: Seconds since that.
    uptime: int
    is_primary: bool
    #: The history to which its writes belong, and how far it goes.
    history: str
    reached: int
    #: The history that it went on with before that, and up to where.
    former: str
    former_end: int


class End(NamedTuple):
    """Up to where the history of a node went that takes no more writes."""

    history: str
    reached: int


def parse(info: bytes) -> Node | None:
    """Read the sections `server` and `replication` of INFO; None when a fact is missing."""
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    facts = {name: value for name, colon, value in lines if colon}
    try:
        return Node(
            run=facts["run_id"],
            uptime=int(facts["uptime_in_seconds"]),
            is_primary=facts["role"] == "master",
            history=facts["master_replid"],
            reached=int(facts["master_repl_offset"]),
            former=facts["master_replid2"],
            # It is where the next one began.
            former_end=int(facts["second_repl_offset"]) - 1,
        )
    except (KeyError, ValueError):
        return None


class Succession:
    """The primaries that a reader has had, one after another."""

    def __init__(self) -> None:
        self._known: Node | None = None
        #: Where the history of that one ended, as far as it has said so itself.
        self._end: End | None = None
        #: The history of a primary that may lack what the one before had taken, until the reader
        #: has looked into it.
        self.doubtful: str | None = None

    def meet(self, node: Node, *, away: float) -> None:
        """A link leads to this node.

        Args:
            away: seconds since the reader last had an answer from a primary.
        """
        known = self._known
        if known is not None:
            self._end = end_of(known, node) or self._end
        if not node.is_primary:
            return
        if known is not None and may_lack(node, known, self._end, away):
            self.doubtful = node.history
        self._known, self._end = node, None


def end_of(known: Node, now: Node) -> End | None:
    """Up to where the history of a primary went, if this is the same one, and a replica now."""
    if now.is_primary or now.run != known.run:
        return None
    if now.history == known.history:
        return End(known.history, now.reached)
    if now.former == known.history:
        # It goes on with what its new primary has: Redis has compared the two.
        return End(known.history, now.former_end)
    # It has taken over the data of its new primary, whatever its own were.
    return None


def may_lack(now: Node, known: Node, end: End | None, away: float) -> bool:
    """True if a primary may lack entries that another one has taken.

    Args:
        known: the primary that was there before.
        end: where its history ended, if that is known.
        away: seconds since it last answered.
    """
    if now.run == known.run:
        # It went on, or took part in no other history while it was a replica.
        return known.history not in (now.history, now.former)
    if end is not None and now.former == end.history:
        return now.former_end < end.reached
    # One that was started since then is the same one with what it has kept, which the streams
    # show. Any other was there beside the one before.
    return now.uptime > away + ROUNDING
