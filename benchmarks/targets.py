"""The targets, as ratios to the straightforward program of the same run."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Target:
    """What one figure of one work is to be."""

    work: str
    figure: str
    #: At most; at least where more is better.
    target: float
    stretch: float | None = None
    more_is_better: bool = False
    #: Compared as it is, because nobody else does this work.
    absolute: bool = False

    def met(self, value: float) -> bool:
        return self._within(value, self.target)

    def stretched(self, value: float) -> bool:
        return self.stretch is not None and self._within(value, self.stretch)

    def _within(self, value: float, limit: float) -> bool:
        return value >= limit if self.more_is_better else value <= limit

    @property
    def text(self) -> str:
        """Like `≤ 0.08 (0.05)`, the stretch in parentheses."""
        sign = "≥" if self.more_is_better else "≤"
        stretch = "" if self.stretch is None else f" ({self.stretch:g})"
        return f"{sign} {self.target:g}{stretch}"


TARGETS = [
    Target(work="round-trip", figure="cpu", target=0.08, stretch=0.05),
    Target(work="round-trip", figure="rate", target=10, stretch=15, more_is_better=True),
    Target(work="round-trip-1", figure="p50", target=0.75, stretch=0.5),
    Target(work="fan-out-1000", figure="cpu", target=0.17, stretch=0.12),
    Target(work="fan-out-5000", figure="cpu", target=0.22, stretch=0.16),
    Target(work="fan-out-paced", figure="cpu", target=0.33, stretch=0.25),
    Target(work="push", figure="cpu", target=0.75, stretch=0.6),
    Target(work="push", figure="p50", target=0.75, stretch=0.6),
    Target(work="memory", figure="memory", target=0.75, stretch=0.35),
    Target(work="handshake", figure="cpu", target=1.0),
    Target(work="handshake-authenticated", figure="cpu", target=1.4),
    Target(work="fifo-prefork", figure="cpu", target=0.25),
    Target(work="fifo-solo", figure="cpu", target=0.25),
    Target(work="resume", figure="cpu", target=1.0, absolute=True),
    Target(work="loop-lag-broadcast", figure="p99", target=20, absolute=True),
    Target(work="loop-lag-resume", figure="p99", target=20, absolute=True),
]


def target_of(work: str, figure: str) -> Target | None:
    for target in TARGETS:
        if (target.work, target.figure) == (work, figure):
            return target
    return None
