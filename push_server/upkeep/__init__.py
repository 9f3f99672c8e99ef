"""What a push server does beside its connections: its life, heartbeat, clock, stream, presence."""
