"""Sockets and the event loop: how bytes come and go."""
