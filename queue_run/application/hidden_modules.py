"""Files of an application that hide a module of the framework, of a library or of Python.

`python -m` puts the working directory first on the path, and workers put the application's folder
there. So an application's own `worker.py` would be run in place of ours, and its `redis.py` would
be imported in place of the library. Folders that PYTHONPATH names come first, too; there a library
may be meant, and only our own names are looked for.

This file imports nothing but what every interpreter has, since it must work where such a file is.
"""

import _frozen_importlib_external as importing
import os
import sys
from collections.abc import Iterator

#: Our packages: an application cannot have modules of these names.
OWN = ("push_server", "queue_run", "worker")
#: Libraries that some process imports, perhaps not this one; what it has imported is known.
LIBRARIES = (
    *("amqp", "billiard", "celery", "click", "dateutil", "hiredis", "kombu", "msgspec"),
    *("packaging", "psutil", "redis", "tornado", "tzdata", "vine"),
)
#: The same of Python's modules, of which workers, pools and push servers import these later.
LATER = ("concurrent", "http", "multiprocessing", "queue", "resource", "sched", "shelve", "dbm")


def leave_out_working_directory() -> None:
    """Take the working directory off the path, where `python -m` runs one of our packages.

    Called before anything else is imported, which it would hide.
    """
    # While the package of `-m` is imported, its name is not yet in the arguments.
    ours = any(each.partition(".")[0] in OWN for each in sys.orig_argv[1:])
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
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
    """One sentence for each file in an application's folders that hides a module, and for each on
    the path that hides one of ours."""
    found = {
        path: f"{path} hides {whose} {name!r}: rename it, give it another name"
        for folder in dict.fromkeys(os.path.abspath(each) for each in folders)
        for name, path in _modules_in(folder)
        if (whose := _whose(name, folder))
    }
    for name, path in _ours_elsewhere():
        found.setdefault(
            path,
            f"{path} hides {_OURS} {name!r}: rename it, or take its folder off PYTHONPATH",
        )
    return list(found.values())


def _ours_elsewhere() -> Iterator[tuple[str, str]]:
    """Name and path of what is found on the path before our own packages."""
    for name in OWN:
        spec = importing.PathFinder.find_spec(name, sys.path)
        # Without a file it is a folder without `__init__.py`, which every package goes before.
        if spec is None or not spec.has_location or spec.origin is None:
            continue
        # A package goes by its folder.
        path = os.path.dirname(spec.origin) if spec.submodule_search_locations else spec.origin
        if os.path.dirname(os.path.realpath(path)) != _our_folder():
            yield name, path


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
        # Python imports what it has compiled without its source, too.
        is_code = ending in ("py", "pyc") or ending.endswith("so")
        is_module = dot and is_code and os.path.isfile(path)
        if is_module or (not dot and _is_package(name, path)):
            yield name, path


def _is_package(name: str, path: str) -> bool:
    if os.path.isfile(os.path.join(path, "__init__.py")):
        return True
    if name not in OWN:
        return False
    try:
        return any(each.endswith(".py") for each in os.listdir(path))
    except OSError:
        # No folder, or one that nobody may look into: Python finds nothing there either.
        return False


_OURS = "the framework's own module"


def _our_folder() -> str:
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def _whose(name: str, folder: str) -> str | None:
    """The owner of the module that a file in the folder would hide; None without such a module."""
    if name in OWN:
        return None if os.path.realpath(folder) == _our_folder() else _OURS
    if name in LIBRARIES:
        return "the library"
    # What the framework does not import, a file may be named like.
    if name in sys.stdlib_module_names and name in (*_imported, *LATER):
        return "Python's own module"
    return None
