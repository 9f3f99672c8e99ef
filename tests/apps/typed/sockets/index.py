"""What a strict type checker must accept."""

from dataclasses import dataclass

from queue_run import (
    ClientError,
    Config,
    ConnectionRequest,
    Refuse,
    Request,
    SentMessage,
    queues,
    socket,
)
from queue_run.middleware import log_message_received

config = Config(timeout=5, ordered=True)


@dataclass
class Question:
    text: str


async def handler(data: Question, request: Request) -> dict[str, str]:
    if not data.text:
        raise ClientError("ask something")
    await socket.join("curious")
    await socket.room("curious").send({"asked": data.text}, exclude_sender=True)
    await socket.to(["ann", 7]).send(data)
    socket.send("heard")
    job: str = await queues.get("answer").push({"text": data.text})
    return {"job": job, "id": request.request_id}


async def on_authenticate(request: ConnectionRequest) -> dict[str, str] | None:
    if request.bearer_token == "wrong":
        raise Refuse(401, "go away")
    return {"id": request.query["user"]}


def on_message_received(request: Request) -> None:
    log_message_received(request)


def on_message_sent(message: SentMessage) -> None:
    assert message.target
