"""The side of a worker that Celery sees: application, tasks, consumer, beat, and repairs."""
