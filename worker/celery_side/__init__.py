"""What Celery sees of us: its application, tasks, consumer, beat, and repairs of it."""
