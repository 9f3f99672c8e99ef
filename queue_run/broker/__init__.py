"""Celery's broker, Redis or RabbitMQ, as we need it; and the way of requests over it."""
