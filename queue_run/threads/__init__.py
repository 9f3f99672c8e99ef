"""Threads of ours, and what becomes of the process when one of them ends."""
