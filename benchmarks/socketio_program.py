"""The same program with python-socketio: its server under uvicorn, Celery tasks that emit.

`python -m benchmarks.socketio_program` is its server, `celery -A benchmarks.socketio_program
worker` its worker.
"""

import os
from typing import Any
from urllib.parse import parse_qs

import socketio
import uvicorn
from celery import Celery

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")

app = Celery("socketio_program", broker=REDIS_URL)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
manager = socketio.RedisManager(REDIS_URL, write_only=True)


@app.task(name="echo")
def echo(connection: str, data: Any) -> None:
    manager.emit("msg", {"echo": data}, to=connection)


def create_server() -> "socketio.AsyncServer":
    sio = socketio.AsyncServer(
        async_mode="asgi",
        client_manager=socketio.AsyncRedisManager(REDIS_URL),
        transports=["websocket"],
    )

    @sio.event  # type: ignore[untyped-decorator, unused-ignore]
    async def connect(sid: str, environ: dict[str, Any]) -> bool:
        user = parse_qs(environ["QUERY_STRING"]).get("user")
        if not user:
            return False
        await sio.enter_room(sid, f"user:{user[0]}")
        return True

    @sio.event  # type: ignore[untyped-decorator, unused-ignore]
    def msg(sid: str, data: Any) -> None:
        echo.delay(sid, data)

    return sio


if __name__ == "__main__":
    uvicorn.run(
        socketio.ASGIApp(create_server()),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        log_level="warning",
        backlog=2048,
    )
