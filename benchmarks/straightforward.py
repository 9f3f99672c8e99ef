"""The program that one would write instead: Tornado, a Celery task per message, Redis pub/sub.

`python -m benchmarks.straightforward` is its server, `celery -A benchmarks.straightforward worker`
its worker. Written as a competent engineer would in an hour: it answers, and promises nothing.
"""

import asyncio
import json
import os
from typing import Any

import redis
import redis.asyncio
from celery import Celery
from tornado.web import Application
from tornado.websocket import WebSocketClosedError, WebSocketHandler

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
CHANNEL = "straightforward"

app = Celery("straightforward", broker=REDIS_URL)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
publisher = redis.Redis.from_url(REDIS_URL)
connections: dict[str, "EchoHandler"] = {}


@app.task(name="echo")
def echo(connection: str, data: Any) -> None:
    publisher.publish(CHANNEL, json.dumps({"to": connection, "message": {"echo": data}}))


@app.task(name="nothing")
def nothing(payload: Any) -> None:
    pass


class EchoHandler(WebSocketHandler):
    def open(self) -> None:
        self.name = str(id(self))
        connections[self.name] = self

    def on_message(self, message: str | bytes) -> None:
        echo.delay(self.name, json.loads(message))

    def on_close(self) -> None:
        connections.pop(self.name, None)


async def forward() -> None:
    pubsub = redis.asyncio.Redis.from_url(REDIS_URL).pubsub()
    await pubsub.subscribe(CHANNEL)
    async for item in pubsub.listen():
        if item["type"] == "message":
            await deliver(json.loads(item["data"]))


async def deliver(envelope: dict[str, Any]) -> None:
    everyone = list(connections.values())
    receivers = everyone if envelope["to"] == "*" else [connections.get(envelope["to"])]
    for receiver in receivers:
        if receiver is not None:
            try:
                receiver.write_message(envelope["message"])
            except WebSocketClosedError:
                connections.pop(receiver.name, None)


async def main() -> None:
    Application([(r"/.*", EchoHandler)]).listen(int(os.environ["PORT"]), "127.0.0.1")
    print("listening", flush=True)
    await forward()


if __name__ == "__main__":
    asyncio.run(main())
