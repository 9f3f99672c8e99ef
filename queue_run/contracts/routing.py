"""Routing: finding the route that answers a URL path.

Pure, and shared: workers find the handler with it, push servers the route's timeout, from the
same patterns, so the two never disagree.
"""

import re
import sys
from typing import Generic, TypeVar
from urllib.parse import unquote

T = TypeVar("T")

#: Paths whose targets are remembered, at most.
KNOWN_PATHS = 1_000

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Router(Generic[T]):
    """Patterns like `/rooms/{room}`, each with the target that answers it.

    An exact path wins over a pattern with parameters, a pattern that begins with more literal text
    over one with less. Without either, the nearest fallback upward answers: that of `/chat` answers
    `/chat/x/y`, that of `/` everything.
    """

    def __init__(self) -> None:
        self._exact: dict[str, T] = {}
        self._patterns: list[tuple[str, re.Pattern[str], T]] = []
        self._fallbacks: dict[str, T] = {}
        #: What was found lately. Clients choose paths: there is no end of them.
        self._known: dict[str, tuple[T, dict[str, str]] | None] = {}

    def add(self, pattern: str, target: T, *, fallback: bool = False) -> None:
        """Add a route.

        Args:
            fallback: it also answers paths below `pattern` that nothing else answers.

        Raises:
            ValueError: for a pattern that is malformed, or taken already.
        """
        pattern = normal(pattern.replace("%", "%25"))
        shape = _PARAMETER.sub("{}", pattern)
        if shape in self._exact or any(shape == taken for taken, _, _ in self._patterns):
            raise ValueError(f"the path {pattern} is taken already")
        if "{}" in shape:
            expression = compile_pattern(pattern)
            self._patterns.append((shape, expression, target))
            # Literal text comes before a parameter, at every place.
            self._patterns.sort(key=lambda each: each[0].replace("{}", chr(sys.maxunicode)))
        else:
            _refuse_braces(pattern, pattern)
            self._exact[pattern] = target
        if fallback:
            self._fallbacks[pattern] = target
        self._known.clear()

    def match(self, path: str) -> tuple[T, dict[str, str]] | None:
        """The target for a URL path, with the values of its parameters; None without a route."""
        if path not in self._known:
            if len(self._known) >= KNOWN_PATHS:
                self._known.clear()
            self._known[path] = self._find(path)
        found = self._known[path]
        return None if found is None else (found[0], dict(found[1]))

    def _find(self, path: str) -> tuple[T, dict[str, str]] | None:
        path = decoded(normal(path))
        if path in self._exact:
            return self._exact[path], {}
        for _, expression, target in self._patterns:
            found = expression.fullmatch(path)
            if found:
                return target, {name: unquote(value) for name, value in found.groupdict().items()}
        while path != "/":
            path = path.rpartition("/")[0] or "/"
            if path in self._fallbacks:
                return self._fallbacks[path], {}
        return None


def normal(path: str) -> str:
    """The path with one leading slash and no trailing one."""
    return "/" + path.strip("/")


def decoded(path: str) -> str:
    """The path with its percent-encoding undone, but for slashes (and percents) in a segment."""
    return "/".join(
        unquote(segment).replace("%", "%25").replace("/", "%2F") for segment in path.split("/")
    )


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The expression that matches a pattern's paths; a parameter is one path segment.

    Raises:
        ValueError: for a pattern whose braces do not form parameters, or that repeats a name.
    """
    literals = _PARAMETER.split(pattern)
    names = literals[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"the path {pattern} names a parameter twice")
    for literal in literals[::2]:
        _refuse_braces(literal, pattern)
    return re.compile(
        "".join(
            f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part)
            for index, part in enumerate(literals)
        )
    )


def _refuse_braces(literal: str, pattern: str) -> None:
    if "{" in literal or "}" in literal:
        raise ValueError(f"the path {pattern} has braces that are no parameter, like {{name}}")
