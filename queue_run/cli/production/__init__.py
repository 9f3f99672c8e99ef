"""`queue-run start`: the processes of a Procfile on one host.

`procfile` reads the file, `formation` decides which processes run and how many, `readiness` hears
from their lines when they are up, `rolling` replaces them one by one, `session` is one run of all.
"""
