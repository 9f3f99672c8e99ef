"""Jobs on their way: their envelope, and what Redis knows of them.

Workers and those who push share it. A plain job travels as a Celery task, a FIFO job waits in the
list of its group. Redis counts a job's attempts and knows which of them runs, holds the jobs that
wait for a retry, and keeps those that have failed for good.
"""
