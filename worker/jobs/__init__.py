"""Attempts of jobs: begun, leased, ended, and looked after when their worker died."""
