"""What one process has of queue_run, and who acts in it."""
