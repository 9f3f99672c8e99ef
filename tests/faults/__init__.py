"""The fault laboratory: real processes under load, broken in every way that matters, and a checker
that knows what every client must have received.

`make faults` runs all of it, `make faults-short` a short version. See docs/guarantees.md.
"""
