"""Keeping a few processes running, and leaving none behind.

`policy` decides, `child` runs one process, `keeper` keeps one program running, `supervisor` has all
of them. `groups` and `reaper` are the two ends of the pipe that ends every process when the
supervisor itself is killed. Nothing here writes to the terminal: see `reporter`.
"""
