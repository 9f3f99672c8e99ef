"""How much a run does."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A long run, or a short one."""

    clients: int
    #: Pushes per second.
    rate: float
    askers: int
    asker_rate: float
    server_kills: int
    client_cuts: int
    redis_cuts: int
    redis_restarts: int
    redis_flushes: int
    frozen: float
    #: How often all links fall silent.
    silences: int
    #: How often Redis becomes a replica for a while, and how often another one takes over; every
    #: second time after a crash.
    demotions: int
    failovers: int
    #: How often Redis is full, and for how many seconds.
    fillings: int
    full: float
    worker_kills: int
    #: Seconds that a handler runs, so that faults find some at work.
    takes: float
    rolling_restarts: int
    storm: int
    #: Seconds that push servers remember, where clients are to be away for longer.
    window: float
    flapping: int
    flapping_time: float
    listeners: int
    stalled: int
    soak: float
    #: Seconds between two faults.
    pause: float

    @property
    def load(self) -> str:
        return f"{self.clients} clients, {self.rate:g} pushes/s"

    @property
    def mild_load(self) -> str:
        """The same, with a few requests."""
        return f"{self.load}; {self.askers} clients, each asking 1/s"


LONG = Size(
    clients=500,
    rate=200,
    askers=100,
    asker_rate=10,
    server_kills=10,
    client_cuts=2000,
    redis_cuts=20,
    redis_restarts=5,
    redis_flushes=3,
    frozen=10,
    silences=5,
    demotions=5,
    failovers=6,
    fillings=4,
    full=8,
    worker_kills=8,
    takes=0.05,
    rolling_restarts=2,
    storm=2000,
    window=5,
    flapping=1000,
    flapping_time=60,
    listeners=500,
    stalled=50,
    soak=20 * 60,
    pause=3,
)

SHORT = Size(
    clients=80,
    rate=100,
    askers=20,
    asker_rate=5,
    server_kills=2,
    client_cuts=80,
    redis_cuts=5,
    redis_restarts=1,
    redis_flushes=1,
    frozen=4,
    silences=1,
    demotions=1,
    failovers=2,
    fillings=1,
    full=2,
    worker_kills=2,
    takes=0.05,
    rolling_restarts=1,
    storm=200,
    window=1,
    flapping=60,
    flapping_time=8,
    listeners=40,
    stalled=4,
    soak=15,
    pause=1.5,
)
