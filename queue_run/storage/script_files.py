"""Lua scripts for Redis, each in a file of its own: `storage/lua/<folder>/<name>.lua`.

A file begins with its header: what the script does and why, and then

- `-- KEYS: job delayed` and `-- ARGV: token end`: what it is given, by name; `users...` for any
  number of these, `none` for nothing
- `-- INCLUDE: now`: the files of `storage/lua/include` whose text is put before
- `-- BUILDS: <jobs><id>`: a key that it makes itself, out of a prefix that it is given
- `-- RETURNS: …`: its answer, where that is not plain

Its code begins with a local of the same name for each key and argument.
"""

import functools
import hashlib
import importlib.resources
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

#: A field of a header.
FIELD = re.compile(r"-- (KEYS|ARGV|INCLUDE|BUILDS|RETURNS): (.+)")
COMMENT = "--"
#: Stands for no keys or no arguments.
NONE = "none"
#: Ends the name of what may come any number of times.
ANY_NUMBER = "..."


class Given(NamedTuple):
    """The keys or the arguments of a script."""

    names: tuple[str, ...]
    fewest: int
    #: How many they are; None for any number from `fewest` on.
    exactly: int | None

    @classmethod
    def parse(cls, text: str) -> "Given":
        """Parse a field of a header."""
        names = tuple(name for name in text.split() if name != NONE)
        single = sum(not name.endswith(ANY_NUMBER) for name in names)
        return cls(names, single, single if single == len(names) else None)

    def takes(self, number: int) -> bool:
        return number >= self.fewest if self.exactly is None else number == self.exactly


class Script:
    """A script, and what it is to be given.

    Args:
        name: by which errors speak of it.
        source: the text of its file.
        include: gives the source of an included file.

    Raises:
        ValueError: when its header does not say what it is given.
    """

    __slots__ = (
        *("name", "text", "sha", "keys", "arguments"),
        *("_number_of_keys", "_number_of_arguments"),
    )

    def __init__(self, name: str, source: str, include: Callable[[str], str] | None = None) -> None:
        fields = header(source)
        if not {"KEYS", "ARGV"} <= fields.keys():
            raise ValueError(f"the header of the script {name} lacks KEYS or ARGV")
        self.name = name
        self.keys = Given.parse(fields["KEYS"])
        self.arguments = Given.parse(fields["ARGV"])
        self._number_of_keys = self.keys.exactly
        self._number_of_arguments = self.arguments.exactly
        #: What Redis gets.
        self.text = _composed(source, include or _included)
        #: The name under which Redis knows it.
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def check(self, keys: Sequence[object], arguments: Sequence[object]) -> None:
        """
        Raises:
            ValueError: when the script takes another number of them.
        """
        # The usual case first: this is done for every job and every message.
        if len(keys) != self._number_of_keys or len(arguments) != self._number_of_arguments:
            self._check_each(len(keys), len(arguments))

    def _check_each(self, keys: int, arguments: int) -> None:
        if not (self.keys.takes(keys) and self.arguments.takes(arguments)):
            raise ValueError(
                f"the script {self.name} takes the keys {_listed(self.keys)} and the arguments "
                f"{_listed(self.arguments)}, and was given {keys} keys and {arguments} arguments"
            )

    def given(self, keys: Sequence[object], arguments: Sequence[object]) -> tuple[Any, ...]:
        """The arguments of EVAL.

        Raises:
            ValueError: as `check` does.
        """
        self.check(keys, arguments)
        return (self.text, len(keys), *keys, *arguments)

    def given_by_sha(self, keys: Sequence[object], arguments: Sequence[object]) -> tuple[Any, ...]:
        """The arguments of EVALSHA.

        Raises:
            ValueError: as `check` does.
        """
        self.check(keys, arguments)
        return (self.sha, len(keys), *keys, *arguments)

    def __repr__(self) -> str:
        return f"<script {self.name}>"


def _listed(given: Given) -> str:
    return f"({', '.join(given.names)})"


@functools.cache
def load(name: str) -> Script:
    """The script of a file, `attempts/begin` for example.

    Raises:
        FileNotFoundError: when there is none.
        ValueError: when its header does not say what it is given.
    """
    return Script(name, read(name))


def read(name: str) -> str:
    """The text of a file below `storage/lua`."""
    lua = importlib.resources.files("queue_run.storage") / "lua"
    return lua.joinpath(f"{name}.lua").read_text(encoding="utf-8")


def header(source: str) -> dict[str, str]:
    """The fields of the comment with which a file begins."""
    found: dict[str, list[str]] = {}
    for line in source.splitlines():
        if not line.startswith(COMMENT):
            break
        if field := FIELD.match(line):
            found.setdefault(field[1], []).append(field[2])
    return {field: " ".join(texts) for field, texts in found.items()}


def included_by(source: str, include: Callable[[str], str]) -> list[str]:
    """The names of all files whose text is put before, in order; also by way of others."""
    found: list[str] = []
    for name in header(source).get("INCLUDE", "").split():
        found += [*included_by(include(name), include), name]
    return list(dict.fromkeys(found))


def _composed(source: str, include: Callable[[str], str]) -> str:
    """Without comments, since it is sent with each EVAL. What is included stands in the first
    line, where the file has its header: so the lines that Redis names are those of the file."""
    before = " ".join(
        line for name in included_by(source, include) for line in _code(include(name)) if line
    )
    return "\n".join((before, *_code(source)[1:])).rstrip("\n")


def _code(source: str) -> list[str]:
    lines = (line.strip() for line in source.splitlines())
    return ["" if line.startswith(COMMENT) else line for line in lines]


def _included(name: str) -> str:
    return read(f"include/{name}")
