"""Files of an application that hide a module of the framework, of a library or of Python.

`python -m` puts the working directory first on the path, and workers put the application's folder
there. So an application's own `worker.py` would be run in place of ours, and its `redis.py` would
be imported in place of the library. This file imports nothing but what every interpreter has, since
it must work where such a file is.
"""

import os
import sys
from collections.abc import Iterator

#: Our packages: an application cannot have modules of these names.
OWN = ("push_server", "queue_run", "worker")
#: Libraries that some process imports, perhaps not this one; what it has imported is known.
LIBRARIES = (
    *("amqp", "billiard", "celery", "click", "dateutil", "hiredis", "kombu", "msgspec"),
    *("packaging", "redis", "tornado", "tzdata", "vine"),
)
#: The same of Python's modules, of which workers, pools and push servers import these later.
LATER = ("concurrent", "http", "multiprocessing", "queue", "resource", "sched", "shelve", "dbm")


def leave_out_working_directory() -> None:
    """Take the working directory off the path, where `python -m` runs one of our packages.

    Called before anything else is imported, which it would hide.
    """
    # While the package of `-m` is imported, its name is not yet in the arguments.
    ours = any(each.partition(".")[0] in OWN for each in sys.orig_argv[1:])
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.argv[:1] == ["-m"] and ours and not sys.flags.safe_path and sys.path:
        folder = os.path.abspath(sys.path[0])
        if folder == os.getcwd() and folder != here:
            del sys.path[0]
            _left_out.append(folder)


def bring_back_working_directory() -> None:
    """Put it first on the path again: an application's modules may be there."""
    while _left_out:
        sys.path.insert(0, _left_out.pop())


def note_imports() -> None:
    """Called when the framework has been imported: these modules it needs."""
    _imported.update(name for name in sys.modules if "." not in name)


_left_out: list[str] = []
_imported: set[str] = set()


def problems(*folders: str | os.PathLike[str]) -> list[str]:
    """One sentence for each file in an application's folders that hides a module."""
    return [
        f"{path} hides {whose} {name!r}: rename it, give it another name"
        for folder in dict.fromkeys(os.path.abspath(each) for each in folders)
        for name, path in _modules_in(folder)
        if (whose := _whose(name, folder))
    ]


def _modules_in(folder: str) -> Iterator[tuple[str, str]]:
    """Name and path of each module and package; a folder without `__init__.py` hides nothing, but
    one of our names with files in it cannot be what was meant."""
    try:
        entries = sorted(os.listdir(folder))
    except OSError:
        return
    for entry in entries:
        path = os.path.join(folder, entry)
        name, dot, ending = entry.partition(".")
        is_module = dot and (ending == "py" or ending.endswith("so")) and os.path.isfile(path)
        if is_module or (not dot and _is_package(name, path)):
            yield name, path


def _is_package(name: str, path: str) -> bool:
    if os.path.isfile(os.path.join(path, "__init__.py")):
        return True
    return (
        name in OWN
        and os.path.isdir(path)
        and any(each.endswith(".py") for each in os.listdir(path))
    )


def _whose(name: str, folder: str) -> str | None:
    """Whose module it is that a file in the folder would hide; None for nobody's."""
    if name in OWN:
        ours = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
        return None if os.path.realpath(folder) == ours else "the framework's own module"
    if name in LIBRARIES:
        return "the library"
    # What the framework does not import, a file may be named like.
    if name in sys.stdlib_module_names and name in (*_imported, *LATER):
        return "Python's own module"
    return None
