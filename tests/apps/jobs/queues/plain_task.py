"""A plain Celery task beside the queues."""

from celery import shared_task

from queue_run import socket


@shared_task(name="app.tell")
def tell(user: str, text: str) -> None:
    receipt = socket.to(user).send({"told": text})
    assert receipt.value.offset is not None
