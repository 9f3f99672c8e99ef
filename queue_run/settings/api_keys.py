"""The keys of programs that may push jobs by HTTP, as `QUEUE_RUN_API_KEYS` lists them.

`key` may push to every queue, `key:mail+report` to these two. No error has any part of a key in it:
errors end up in logs.
"""

import re
from typing import NamedTuple

#: Characters of the shortest key that is taken: a shorter one can be guessed.
MIN_LENGTH = 16
#: What a queue's name consists of: names of files, joined with dots.
_QUEUE = re.compile(r"[\w-]+(\.[\w-]+)*")


class ApiKey(NamedTuple):
    """One key."""

    key: str
    #: The queues that it may push to; None for all.
    queues: frozenset[str] | None

    def __repr__(self) -> str:
        return f"ApiKey(…, {self.queues})"

    def may_push_to(self, queue: str) -> bool:
        return self.queues is None or queue in self.queues


class InvalidApiKeys(ValueError):
    """A list with items that are no keys.

    Args:
        problems: a sentence for each of them.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__(*problems)
        self.problems = problems


def parse(text: str) -> list[ApiKey]:
    """The keys of a comma separated list.

    Raises:
        InvalidApiKeys: with a sentence for each item that is not a usable key.
    """
    items = [each.strip() for each in text.split(",")]
    items = [each for each in items if each]
    problems: list[str] = []
    keys: list[ApiKey] = []
    for number, item in enumerate(items, 1):
        key, colon, queues = item.partition(":")
        problem = _problem(key, queues.split("+") if colon else None)
        if problem is None and any(key == each.key for each in keys):
            problem = "it is in the list already: name all its queues in one item"
        if problem is not None:
            problems.append(f"item {number} of {len(items)}: {problem}")
        keys.append(ApiKey(key, frozenset(queues.split("+")) if colon else None))
    if problems:
        raise InvalidApiKeys(problems)
    return keys


def _problem(key: str, queues: list[str] | None) -> str | None:
    """Say what is wrong with an item; None when nothing is."""
    if re.search(r"\s", key):
        return "a key has no white space in it: separate keys with commas"
    if not key.isprintable():
        return "a key has no characters in it that cannot be seen, and so cannot be sent"
    if len(key) < MIN_LENGTH:
        return (
            f"a key has at least {MIN_LENGTH} characters, this one {len(key)}: make one with "
            "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    if queues is not None and not all(_QUEUE.fullmatch(each) for each in queues):
        return "what follows the colon names queues, like <key>:mail+report"
    return None
