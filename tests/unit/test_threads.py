"""Whatever of ours goes on beside the rest of its process ends by no defect unseen.

Threads that stand go through one door, `queue_run.threads.vital`. Everything else that is begun and
not waited for where it is begun is listed here, with what becomes of a failure of it: whoever adds
something decides that. Sources are read, not executed.
"""

import ast
from collections.abc import Iterator

from tests.unit.imports import PACKAGES, modules, tree

#: What begins a thread, or is a class of them.
THREADS = {"Thread", "Timer", "start_new_thread", "ThreadPoolExecutor", "spawn"}
#: What begins a task, or has the loop call something later.
TASKS = {"create_task", "ensure_future"}

#: Where threads are begun otherwise, and why nothing is lost in silence with them.
OTHER_THREADS = {
    ("queue_run.threads.vital", "Thread"): "the door itself",
    ("queue_run.threads.vital", "Timer"): "ends the process: one call, which cannot fail",
    (
        "queue_run.threads.downloads",
        "Thread",
    ): "a failure is the caller's, who waits for a limited time",
    (
        "queue_run.process.runtime",
        "ThreadPoolExecutor",
    ): "a failure is the caller's; its threads catch all",
    (
        "worker.calls.threads",
        "ThreadPoolExecutor",
    ): "a failure is the caller's; its threads catch all",
    ("worker.running.time_limits", "Timer"): "one call, of a job that is told by its signal",
    (
        "worker.running.time_limits",
        "start_new_thread",
    ): "one call, of a job that is told by its signal",
}
#: What becomes of a task's failure.
TASK_FAILURES = {
    "push_server.app": "ends the process (`Lifetime.guard`)",
    "push_server.delivery.resume": "logged, and its client resumes once more (`_replayed`)",
    "push_server.delivery.session_rooms": "is that of each who waits for the answer",
    "push_server.transport.wire": "ends its connection, and no other (`_waited`)",
    "queue_run.client.client": "ends the client: whoever uses it has it raised",
    "queue_run.client.connection": "logged, and the client connects again",
    "queue_run.cli.development.reloading": "ends `queue-run dev` (`run` raises it)",
    "queue_run.cli.development.run": "ends `queue-run dev`",
    "queue_run.cli.production.rolling": "is waited for where it is begun",
    "queue_run.cli.production.run": "ends `queue-run start`",
    "queue_run.cli.supervision.child": "is that of the keeper, who waits for it",
    "queue_run.cli.supervision.keeper": "is waited for where it is begun",
    "queue_run.cli.supervision.supervisor": "ends the command (`watch` raises it)",
    "worker.running.intake": "logged, and the request's place is free again (`_finished`)",
    "worker.application.middleware": "logged: a hook's, of a message that is sent already",
    "worker.presence": "logged, and the user's next event runs (`_run_hook`)",
}


def called(module: str, names: set[str]) -> Iterator[str]:
    """The names out of these that a module calls or makes classes of."""
    for node in ast.walk(tree(module)):
        found = [node.func] if isinstance(node, ast.Call) else []
        if isinstance(node, ast.ClassDef):
            found = list(node.bases)
        for each in found:
            name = getattr(each, "attr", getattr(each, "id", None))
            if name in names:
                yield name


def ours() -> list[str]:
    return [name for name in modules() if name.partition(".")[0] in PACKAGES]


def test_every_thread_goes_through_the_door_or_is_known_here() -> None:
    found = {(module, name) for module in ours() for name in called(module, THREADS)}
    assert found == set(OTHER_THREADS)


def test_what_becomes_of_every_tasks_failure_is_known_here() -> None:
    found = {module for module in ours() if any(called(module, TASKS))}
    assert found == set(TASK_FAILURES)
