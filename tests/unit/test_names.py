"""One word, one meaning: the code's names against docs/glossary.md, and names that stand twice."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.unit.imports import PACKAGES

#: Rooms that speak to others, in the words of these.
FOREIGN = {
    "queue_run/broker": {"message", "queue", "channel", "connection", "request"},
    "worker/celery_side": {"message", "queue", "worker", "request", "handler"},
    "worker/jobs/drain_gate.py": {"request"},
    "push_server/rfc6455": {"payload"},
}
#: Says nothing about what a value is.
NEUTRAL = {
    "None",
    "Sequence",
    "Collection",
    "Iterable",
    "Awaitable",
    "list",
    "dict",
    "EllipsisType",
}
#: Words that meant something else once, and where they may not come back.
BANNED = {
    "lane": ("queue_run", "worker"),
    "lanes": ("queue_run", "worker"),
    "envelope": ("queue_run/jobs", "worker/jobs", "push_server/clients", "push_server/http"),
    "claim": ("queue_run/jobs", "worker"),
    "drain": ("push_server", "worker/running"),
}
#: Classes that stand twice: the same idea on another side.
SAME_IDEA = {
    "Client": "of the network and of the test kit",
    "Connection": "of the server, of the client and of the test kit",
    "Ends": "of jobs in workers and in the test kit",
    "Presence": "as applications ask for it, and as push servers tell it",
    "Readiness": "of a push server, and of all processes of `start`",
    "Timekeeper": "of push servers and of workers",
    "UserMiddleware": "for ASGI and for WSGI",
}
#: Files that stand twice, likewise.
SAME_PURPOSE = {
    "celery_app.py": "the Celery application, and what workers add to it",
    "connections.py": "of the server and of the test kit",
    "dead.py": "dead letters, and the command for them",
    "ends.py": "of jobs in workers and in the test kit",
    "errors.py": "of the project, of its client and of its command line",
    "listing.py": "of the application's routes, and of things on the command line",
    "middleware.py": "the names that applications import, and what runs them",
    "presence.py": "as applications ask for it, as push servers tell it, and the hooks in workers",
    "readiness.py": "of `dev` and of `start`",
    "routes.py": "of the application, and the command that lists them",
    "run.py": "of `dev` and of `start`",
    "timekeeper.py": "of push servers and of workers",
    "unreadable.py": "what cannot be read, and the command for it",
}


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def glossary() -> dict[str, set[str]]:
    """What a parameter may be, by its name; empty for a word that is none."""
    rows = re.findall(
        r"^\| ([^|]+) \| [^|]+ \|([^|]*)\|$", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE
    )
    return {word.replace(" ", "_"): set(re.findall(r"`(\w+)`", names)) for word, names in rows[1:]}


def parameters(path: Path) -> Iterator[tuple[ast.arg, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            for each in [*given.posonlyargs, *given.args, *given.kwonlyargs]:
                yield each, node.lineno


def names_in(annotation: ast.expr) -> set[str]:
    """The types in an annotation, without where they come from; of a function's, only that."""
    text = ast.unparse(annotation).strip("'\"")
    if text.startswith("Callable"):
        return {"Callable"}
    return set(re.findall(r"\b([A-Za-z_]\w*)\b(?!\.)", text)) - NEUTRAL


@pytest.mark.parametrize("path", sources(), ids=place)
def test_a_parameter_named_by_a_word_of_the_glossary_is_what_it_says(path: Path) -> None:
    words = glossary()
    foreign = {
        word for room, theirs in FOREIGN.items() if place(path).startswith(room) for word in theirs
    }
    for each, line in parameters(path):
        allowed = words.get(each.arg)
        if not allowed or each.annotation is None or each.arg in foreign:
            continue
        others = names_in(each.annotation) - allowed
        assert not others, f"{place(path)}:{line}: {each.arg} is {others}, and not {allowed}"


@pytest.mark.parametrize("word", BANNED)
def test_a_word_does_not_come_back_where_it_meant_something_else(word: str) -> None:
    for path in sources():
        if not place(path).startswith(tuple(f"{room}/" for room in BANNED[word])):
            continue
        named = [
            node.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        ]
        named += [each.arg for each, _ in parameters(path)]
        assert word not in {each.strip("_").lower() for each in named}, place(path)


def test_the_glossary_is_read() -> None:
    words = glossary()
    assert len(words) > 40
    assert words["lane"] == {"Lane"}
    assert words["session"] == {"Session", "str"}


def test_words_are_in_order() -> None:
    assert list(glossary()) == sorted(glossary())


def test_a_class_stands_twice_only_as_the_same_idea() -> None:
    found = defaultdict(set)
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name].add(place(path))
    assert {name for name, places in found.items() if len(places) > 1} == set(SAME_IDEA)


def test_a_file_stands_twice_only_for_the_same_purpose() -> None:
    found = defaultdict(set)
    for path in sources():
        if not path.name.startswith("__"):
            found[path.name].add(place(path))
    assert {name for name, places in found.items() if len(places) > 1} == set(SAME_PURPOSE)
