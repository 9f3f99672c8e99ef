"""The Redis of `queue-run dev`: one that is installed, or one in Python."""
