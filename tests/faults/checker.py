"""What every client must have received, beside what it has. Pure.

Lost, and not told by a gap: a fault in silence, which must not happen. A gap excuses the messages
between the last one before it and the first one after it, and no others.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

#: What a client was told instead of what it missed.
GAP: Final = "gap"


@dataclass(slots=True)
class Push:
    """A message as it was sent."""

    number: int
    users: Collection[str]
    #: Of its content.
    seal: str
    #: Whether `send` returned; else the message may arrive, or not.
    confirmed: bool = False


class Received(NamedTuple):
    """A message as a client got it."""

    #: -1 for what is no message of the pusher.
    number: int
    #: Of the content, as it came.
    seal: str


Event: TypeAlias = Received | str


def seal(content: object) -> str:
    """Tells a message that was altered on its way, in whatever part of it."""
    return hashlib.blake2b(msgspec.json.encode(content), digest_size=6).hexdigest()


def as_received(content: Any) -> Received:
    """What a client notes of whatever it was handed."""
    number = content.get("n") if isinstance(content, dict) else None
    return Received(number if isinstance(number, int) else -1, seal(content))


@dataclass(slots=True)
class Verdict:
    """What was found; everything but `sent`, `delivered`, `excused` and `gaps` must be zero."""

    sent: int = 0
    delivered: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    misdelivered: int = 0
    #: Missed, and told.
    excused: int = 0
    gaps: int = 0
    #: The first few faults, in words.
    examples: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.out_of_order or self.misdelivered)

    def __str__(self) -> str:
        told = f", {self.excused:,} missed and told by {self.gaps:,} gaps" if self.gaps else ""
        return (
            f"{self.sent:,} pushes, {self.delivered:,} deliveries: lost {self.lost:,}, doubled "
            f"{self.doubled:,}, out of order {self.out_of_order:,}, misdelivered "
            f"{self.misdelivered:,}{told}"
        )

    def add(self, kind: str, example: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.examples) < 10:
            self.examples.append(f"{kind}: {example}")


def judge(pushes: Sequence[Push], logs: Mapping[str, Sequence[Event]]) -> Verdict:
    """Compare what was sent, in order and by their numbers from 0, with each user's log."""
    verdict = Verdict(sent=len(pushes))
    due: dict[str, list[int]] = {user: [] for user in logs}
    for push in pushes:
        if push.confirmed:
            for user in push.users:
                if user in due:
                    due[user].append(push.number)
    for user, log in logs.items():
        _judge_client(verdict, user, log, due[user], pushes)
    return verdict


def _judge_client(
    verdict: Verdict,
    user: str,
    log: Sequence[Event],
    due: Sequence[int],
    pushes: Sequence[Push],
) -> None:
    seen: set[int] = set()
    last = -1
    excused: list[tuple[int, int]] = []
    gap_after: int | None = None
    for event in log:
        if not isinstance(event, Received):
            verdict.gaps += 1
            gap_after = last if gap_after is None else gap_after
            continue
        number = event.number
        known = 0 <= number < len(pushes)
        push = pushes[number] if known else None
        if push is None or user not in push.users or event.seal != push.seal:
            verdict.add("misdelivered", f"{user} got {event}")
            continue
        if number in seen:
            verdict.add("doubled", f"{user} got {number} again")
            continue
        if number < last:
            verdict.add("out_of_order", f"{user} got {number} after {last}")
        if gap_after is not None:
            excused.append((gap_after, number))
            gap_after = None
        seen.add(number)
        last = max(last, number)
    if gap_after is not None:
        excused.append((gap_after, len(pushes)))
    verdict.delivered += len(seen)
    for number in due:
        if number in seen:
            continue
        if any(after < number < before for after, before in excused):
            verdict.excused += 1
        else:
            verdict.add("lost", f"{user} never got {number}")


def still_due(pushes: Sequence[Push], logs: Mapping[str, Sequence[Event]]) -> int:
    """How many messages are missing so far, told or not; for waiting."""
    verdict = judge(pushes, logs)
    return verdict.lost


@dataclass(slots=True)
class Requests:
    """What became of requests: for each, by client and number, its outcomes in words."""

    outcomes: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    #: Outcomes that came for requests that had theirs. A client does not hand these out, so they
    #: are counted where it drops them.
    told_again: int = 0

    def asked(self, user: str, number: int) -> None:
        self.outcomes[user, number] = []

    def ended(self, user: str, number: int, outcome: str) -> None:
        self.outcomes[user, number].append(outcome)

    def answered(self, user: str, number: int, reply: Any) -> None:
        right = reply == {"number": number, "user": user}
        self.ended(user, number, "reply" if right else "reply of another request")


@dataclass(slots=True)
class RequestVerdict:
    """What became of the requests of a run."""

    asked: int
    #: How many ended in which way.
    ends: Counter[str]
    without_outcome: int
    several_outcomes: int
    #: Whose handler ran more than once.
    run_again: int
    #: Outcomes on the wire beyond the first.
    told_again: int

    @property
    def clean(self) -> bool:
        return not (
            self.without_outcome
            or self.several_outcomes
            or self.run_again
            or self.told_again
            or self.ends["reply of another request"]
        )

    def __str__(self) -> str:
        ends = ", ".join(f"{count:,} {end}" for end, count in sorted(self.ends.items()))
        return (
            f"{self.asked:,} requests ({ends}): without outcome {self.without_outcome:,}, with "
            f"several {self.several_outcomes + self.told_again:,}, run again {self.run_again:,}"
        )


def judge_requests(requests: Requests, runs: Mapping[str, int]) -> RequestVerdict:
    """
    Args:
        runs: how often each handler ran, by `<user> <number>`.
    """
    ends: Counter[str] = Counter()
    for outcomes in requests.outcomes.values():
        ends.update(outcomes)
    return RequestVerdict(
        asked=len(requests.outcomes),
        ends=ends,
        without_outcome=sum(not each for each in requests.outcomes.values()),
        several_outcomes=sum(len(each) > 1 for each in requests.outcomes.values()),
        run_again=sum(count > 1 for count in runs.values()),
        told_again=requests.told_again,
    )
