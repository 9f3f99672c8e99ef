"""The parts of `queue-run dev`.

`session` is its life from start to end; `programs` says what it runs, `embedded_redis` finds and
starts a Redis, `watch` sees files change, `readiness` asks whether all is up, `console` is the only
one that writes to the terminal.
"""
