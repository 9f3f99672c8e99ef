"""The HTTP side: handshakes, pushes of jobs, health, and who may come in."""
