"""Takes a TypedDict."""

from typing import NotRequired, TypedDict


class Account(TypedDict):
    name: str
    age: NotRequired[int]


def handler(data: Account) -> object:
    return {"name": data["name"], "age": data.get("age")}
