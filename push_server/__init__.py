"""The push server: holds the connections and runs no application code."""

# Of `python -m push_server`, first: it takes the working directory off the path, where a file may
# have the name of what is imported next.
import queue_run as _queue_run  # noqa: F401
