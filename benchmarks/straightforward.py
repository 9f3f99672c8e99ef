"""The program that one would write instead: Tornado, a Celery task per message, Redis pub/sub.

`python -m benchmarks.straightforward` is its server, `celery -A benchmarks.straightforward worker`
its worker. Written as a competent engineer would in an hour: it answers, and promises nothing.
"""

import asyncio
import json
import os
from collections import defaultdict
from collections.abc import Iterable
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
users: defaultdict[str, set["EchoHandler"]] = defaultdict(set)


def publish(message: Any, **to: str) -> None:
    """To `connection=…`, to `user=…`, or to all."""
    publisher.publish(CHANNEL, json.dumps({"to": to, "message": message}))


@app.task(name="echo")
def echo(connection: str, data: Any) -> None:
    publish({"echo": data}, connection=connection)


@app.task(name="nothing")
def nothing(payload: Any) -> None:
    pass


class EchoHandler(WebSocketHandler):
    name: str
    user: str

    def prepare(self) -> None:
        self.user = self.get_query_argument("user", "")
        if not self.user:
            self.send_error(401)

    def open(self) -> None:
        self.name = str(id(self))
        connections[self.name] = self
        users[self.user].add(self)

    def on_message(self, message: str | bytes) -> None:
        echo.delay(self.name, json.loads(message))

    def on_close(self) -> None:
        connections.pop(self.name, None)
        users[self.user].discard(self)
        if not users[self.user]:
            del users[self.user]


async def forward() -> None:
    pubsub = redis.asyncio.Redis.from_url(REDIS_URL).pubsub()
    await pubsub.subscribe(CHANNEL)
    async for item in pubsub.listen():
        if item["type"] == "message":
            deliver(json.loads(item["data"]))


def deliver(envelope: dict[str, Any]) -> None:
    message = json.dumps(envelope["message"])
    for receiver in list(receivers(envelope["to"])):
        try:
            receiver.write_message(message)
        except WebSocketClosedError:
            connections.pop(receiver.name, None)


def receivers(to: dict[str, str]) -> Iterable[EchoHandler]:
    if "user" in to:
        return users.get(to["user"], ())
    if "connection" in to:
        return [connections[to["connection"]]] if to["connection"] in connections else ()
    return connections.values()


async def main() -> None:
    server = Application([(r"/.*", EchoHandler)]).listen(
        int(os.environ["PORT"]), "127.0.0.1", backlog=1024
    )
    print("listening", flush=True)
    await forward()
    server.stop()


if __name__ == "__main__":
    asyncio.run(main())
