"""From what was measured to what a million connections need."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

MILLION = 1_000_000
#: Of a core, in the long run.
BUSY = 0.6


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What was measured; CPU in seconds."""

    #: Bytes of a push server per idle connection.
    memory: float
    #: One frame to one connection, in a push of its own.
    push: float
    #: One frame to one connection of a fan-out.
    delivery: float
    #: A push server's for an entry that is for nobody there.
    idle_entry: float
    #: Redis' for a push: alone, and for each push server that reads it.
    redis_entry: float
    redis_reader: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Processes for a number of connections."""

    connections: int
    pushes: float
    instances: int
    servers: int
    memory: float
    redis_cores: float
    server_cores: float


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Start and slope of the straight line with the least squares."""
    count = len(x)
    middle_x, middle_y = sum(x) / count, sum(y) / count
    spread = sum((value - middle_x) ** 2 for value in x)
    slope = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / spread
    return middle_y - slope * middle_x, slope


def plan(costs: Costs, *, connections: int, per_server: int, per_user_hour: float) -> Plan:
    """The fewest Redis instances, each with push servers of its own, that carry the load.

    Args:
        per_user_hour: pushes to each user in an hour, each user having one connection.
    """
    pushes = connections * per_user_hour / 3600
    instances = 1
    while True:
        servers = math.ceil(connections / instances / per_server)
        rate = pushes / instances
        redis = rate * (costs.redis_entry + costs.redis_reader * servers)
        server = rate * (costs.idle_entry * (servers - 1) + costs.push) / servers
        if redis <= BUSY and server <= BUSY:
            break
        if redis <= BUSY and rate * costs.idle_entry <= BUSY / 2:
            # More processes of fewer connections each are enough.
            per_server = math.ceil(per_server * 0.8)
            continue
        instances += 1
    return Plan(
        connections=connections,
        pushes=pushes,
        instances=instances,
        servers=servers * instances,
        memory=connections * costs.memory,
        redis_cores=redis * instances,
        server_cores=server * servers * instances,
    )
