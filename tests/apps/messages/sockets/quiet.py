"""Answers nothing, but to a question with its whole request as the parameter."""

from queue_run import Request


async def handler(message: Request) -> str | None:
    return "loud" if message.data == "speak" else None
