"""The fuzzing client of Autobahn TestSuite, a conformance suite, against our push server.

`make autobahn` runs all of it. See docs/guarantees.md.
"""
