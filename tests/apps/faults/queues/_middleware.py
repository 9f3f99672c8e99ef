"""Says nothing of jobs: a line for each would be most of the work."""

on_job_started = on_job_finished = on_error = None
