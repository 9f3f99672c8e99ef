"""The processes that `queue-run dev` runs, and whether they do their part."""
