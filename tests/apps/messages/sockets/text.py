"""Answers with text, from a plain function."""

from queue_run import Config

config = Config(type="text")


def handler(data: str) -> str:
    return data.upper()
