"""What a job is on its way: its envelope, and what Redis knows of it.

Workers and those who push share it. A plain job travels as a Celery task, a FIFO job waits in the
lane of its group. Redis counts a job's attempts and knows which of them runs, holds the jobs that
wait for a retry, and keeps those that have failed for good.
"""
