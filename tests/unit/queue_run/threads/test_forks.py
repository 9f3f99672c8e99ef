"""What is known of the process in which something was made."""

import os
from collections.abc import Callable

from queue_run.threads.forks import HomeProcess, one_in_each_process


def in_a_child(check: Callable[[], bool]) -> bool:
    """What a check says in a forked child, which does nothing else."""
    child = os.fork()
    if not child:
        os._exit(0 if check() else 1)
    return os.waitpid(child, 0)[1] == 0


def test_what_was_made_before_a_fork_is_not_the_childs() -> None:
    origin = HomeProcess()
    assert origin.is_here
    assert in_a_child(lambda: not origin.is_here)
    assert in_a_child(lambda: HomeProcess().is_here)


def test_one_thing_is_made_in_each_process_for_the_same_arguments() -> None:
    made: list[str] = []

    @one_in_each_process
    def make(name: str) -> object:
        made.append(name)
        return object()

    first = make("a")
    assert make("a") is first
    assert make("b") is not first
    assert made == ["a", "b"]
    assert in_a_child(lambda: make("a") is not first and make("a") is make("a"))
    assert make("a") is first
