"""The upkeep of a push server: its lifetime, heartbeat, clock, stream and presence."""
