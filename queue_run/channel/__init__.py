"""The channel: the Redis path from workers to push servers.

It is a log of capped streams, not pub/sub: a reader that loses its link continues where it
stopped. `publisher` writes from any thread, `listener` reads on an event loop.
"""
