"""Forks: a child must not use the links and locks of threads that were not copied with it."""

import functools
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class HomeProcess:
    """The process in which something was made."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """True in that process, and False in one that was forked from it."""
        return os.getpid() == self._pid


def one_in_each_process(make: Callable[P, T]) -> Callable[P, T]:
    """Let what is made for the same arguments be one within a process, and another in a child."""

    @functools.cache
    def made(_pid: int, *args: P.args, **kwargs: P.kwargs) -> T:
        return make(*args, **kwargs)

    @functools.wraps(make)
    def of_this_process(*args: P.args, **kwargs: P.kwargs) -> T:
        # What is no key of the cache raises there.
        return made(os.getpid(), *args, **kwargs)  # type: ignore[arg-type]

    return of_this_process
