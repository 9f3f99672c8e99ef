"""Loading an application: `sockets/` and `queues/`, with all failures reported together."""

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from queue_run.application import schedules
from queue_run.application.config import (
    JOB_BACKOFF,
    JOB_ONLY,
    JOB_RETRIES,
    JOB_TIMEOUT,
    REQUEST_TIMEOUT,
    SOCKET_ONLY,
    Config,
    DataType,
)
from queue_run.application.payloads import Validate, annotation_of, payload_validator, validator
from queue_run.application.sources import FOLDERS, find
from queue_run.contracts.routing import Router
from queue_run.errors import ApplicationError, ClientError
from queue_run.logs import excerpt
from queue_run.middleware import (
    log_error,
    log_job_finished,
    log_job_started,
    log_message_received,
    log_message_sent,
)
from worker.application.middleware import Hook, Hooks
from worker.application.routes import Handler, JobHandler, Route, Routes
from worker.calls import django_care

SOCKETS, QUEUES = FOLDERS
#: What a socket handler may ask for by name.
REQUEST_PARAMETERS = (
    "connection",
    "data",
    "request_id",
    "user",
    "path",
    "params",
    "signal",
    "request",
)
#: What a job handler may ask for by name, beside its payload.
JOB_PARAMETERS = (
    "user",
    "job_id",
    "queue_name",
    "queued_at",
    "attempt",
    "group_id",
    "sequence_number",
    "signal",
    "params",
)
#: Middleware by name, and what each is given.
HOOKS = {
    "on_authenticate": ("the request",),
    "on_message_received": ("the request",),
    "on_message_sent": ("the message",),
    "on_job_started": ("the job",),
    "on_job_finished": ("the job",),
    "on_online": ("the user's id",),
    "on_offline": ("the user's id",),
    "on_error": ("the error", "what failed: the request, or the job"),
}
#: Middleware of the application as a whole, and the one file that may have it.
OF_THE_WHOLE = ("on_online", "on_offline")
WHOLE_FILE = f"{SOCKETS}/_middleware.py"
#: Middleware that comes with the framework and never blocks.
DEFAULTS = (log_message_received, log_message_sent, log_job_started, log_job_finished, log_error)
#: An annotation that says which frames a route takes.
_ANNOTATED_TYPES: dict[Any, DataType] = {str: "text", bytes: "binary"}


class _Invalid(Exception):
    """A file that cannot be used; the text says why, without the file's name."""


def load(folder: Path) -> Routes:
    """Import the application in `folder` and find its handlers.

    Raises:
        ApplicationError: with every file that cannot be used, or when neither `sockets/` nor
            `queues/` is there.
    """
    roots = [folder / name for name in FOLDERS]
    # A link that leads nowhere is no folder that is missing: it is named with the other problems.
    if not any(root.is_dir() or root.is_symlink() for root in roots):
        missing = f"{folder} has neither {SOCKETS}/ nor {QUEUES}/"
        raise ApplicationError([f"{missing}: start in its folder, or set QUEUE_RUN_APP_DIR"])
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        django_care.set_up()
    except Exception as error:
        failure = _import_failure(error, folder)
        raise ApplicationError([f"{django_care.variable()}: {failure}"]) from error
    return _Load(folder).run()


class _Load:
    """One pass over an application's files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._problems: list[str] = []
        #: All modules of the application by file.
        self._modules: dict[str, ModuleType] = {}

    def run(self) -> Routes:
        # Both before any file: `from queues.mail import queue` in a file of `sockets/` must find
        # the package of this application.
        roots = [kind for kind in (SOCKETS, QUEUES) if (self._folder / kind).is_dir()]
        for kind in roots:
            package = partial(_make_package, kind, self._folder / kind)
            self._import(f"{kind}/__init__.py", package)
        modules = {kind: dict(self._import_all(kind)) for kind in (SOCKETS, QUEUES)}
        self._modules = {**modules[SOCKETS], **modules[QUEUES]}
        sockets = self._each(modules[SOCKETS], self._route)
        self._check_paths(sockets)
        jobs = self._each(modules[QUEUES], self._job_handler)
        index = _middleware_files("sockets/index.py")
        hooks = self._hooks(index)
        authenticate = self._hook("on_authenticate", index, None)
        online, offline = (self._hook(name, [WHOLE_FILE], None) for name in OF_THE_WHOLE)
        self._check_places()
        if self._problems:
            raise ApplicationError(self._problems)
        return Routes(
            sockets=tuple(sockets),
            queues={job.name: job for job in jobs},
            authenticate=authenticate,
            online=online,
            offline=offline,
            hooks=hooks,
            around=django_care.care(),
        )

    def _check_places(self) -> None:
        """Note middleware of the whole application that is in another file than `WHOLE_FILE`."""
        for file, module in self._modules.items():
            name = Path(file).name
            if file == WHOLE_FILE or (name.startswith("_") and name != "_middleware.py"):
                # A file of the application's own, from which it may be imported.
                continue
            self._problems += [
                f"{file}: {hook} is of the whole application: move it to {WHOLE_FILE}"
                for hook in OF_THE_WHOLE
                if hasattr(module, hook)
            ]

    def _route(self, file: str, module: ModuleType) -> Route:
        return _route(file, module, self._hooks(_middleware_files(file)))

    def _job_handler(self, file: str, module: ModuleType) -> JobHandler | None:
        return _job_handler(file, module, self._job_hooks(_middleware_files(file)))

    def _import_all(self, kind: str) -> Iterator[tuple[str, ModuleType]]:
        """The modules of one folder, by file name; those that fail are noted."""
        root = self._folder / kind
        found = find(self._folder, kind)
        self._problems += found.problems
        for relative in found.files:
            if relative.name == "__init__.py":
                continue
            path = self._folder / relative
            module = self._import(str(relative), partial(_import_file, path, root))
            if module is not None:
                yield str(relative), module

    def _import(self, file: str, load: Callable[[], ModuleType]) -> ModuleType | None:
        """Call `load` and return its module; None when it fails, which is noted as a problem."""
        try:
            return load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # Whatever a file does while it is imported, the others are still looked at.
            self._problems.append(f"{file}: {_import_failure(error, self._folder)}")
            return None

    def _each(self, modules: dict[str, ModuleType], make: Callable[[str, ModuleType], Any]) -> Any:
        found = []
        for file, module in modules.items():
            if Path(file).name.startswith("_"):
                continue
            try:
                made = make(file, module)
            except _Invalid as error:
                self._problems.append(f"{file}: {error}")
            else:
                if made is not None:
                    found.append(made)
        return found

    def _check_paths(self, routes: list[Route]) -> None:
        router: Router[Route] = Router()
        for route in routes:
            try:
                router.add(route.pattern, route, fallback=route.fallback)
            except ValueError as error:
                self._problems.append(f"{route.file}: {error}")

    def _hooks(self, files: list[str]) -> Hooks:
        """The middleware around messages: each function is of the first file that has it."""
        return Hooks(
            received=self._hook("on_message_received", files, log_message_received),
            sent=self._hook("on_message_sent", files, None),
            error=self._hook("on_error", files, log_error),
        )

    def _job_hooks(self, files: list[str]) -> Hooks:
        """The middleware around jobs: each function is of the first file that has it."""
        return Hooks(
            started=self._hook("on_job_started", files, log_job_started),
            finished=self._hook("on_job_finished", files, log_job_finished),
            error=self._hook("on_error", files, log_error),
        )

    def _hook(self, name: str, files: list[str], default: Callable[..., Any] | None) -> Hook | None:
        """The most specific function of this name; None where a file says None."""
        modules = self._modules
        for file in files:
            if not hasattr(modules.get(file), name):
                continue
            function = getattr(modules[file], name)
            if function is None:
                return None
            if not callable(function) or not _accepts(function, HOOKS[name]):
                takes = " and ".join(HOOKS[name])
                problem = f"{file}: {name} must be a function that takes {takes}"
                if problem not in self._problems:
                    self._problems.append(problem)
                return None
            return _as_hook(function, file)
        return _as_hook(default, "default") if default is not None else None


def _middleware_files(file: str) -> list[str]:
    """List the files in which a file's middleware is looked for: itself, then the one beside it."""
    return [file, str(Path(file).parent / "_middleware.py")]


def _import_file(path: Path, root: Path) -> ModuleType:
    """Import a file by its place below `sockets` or `queues`."""
    module = importlib.import_module(
        ".".join((root.name, *path.relative_to(root).with_suffix("").parts))
    )
    folder = path.with_suffix("")
    if folder.is_dir() and not hasattr(module, "__path__"):
        # A file and a folder of one name: the file's module is also the folder's package.
        module.__path__ = [str(folder)]
    return module


def _make_package(name: str, root: Path) -> ModuleType:
    """Make `sockets` or `queues` the package of this folder, whatever else has that name."""
    for loaded in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
        del sys.modules[loaded]
    if (root / "__init__.py").exists():
        return importlib.import_module(name)
    package = ModuleType(name)
    package.__path__ = [str(root)]
    package.__spec__ = importlib.util.spec_from_loader(name, loader=None, is_package=True)
    sys.modules[name] = package
    return package


def _route(file: str, module: ModuleType, hooks: Hooks) -> Route:
    handler = _find_handler(module)
    if handler is None:
        raise _Invalid("it has no function named handler (name a file that is no route _…)")
    parameters, takes_request = _request_parameters(handler)
    config = _config(module, not_for=JOB_ONLY, folder=QUEUES)
    pattern, fallback = _pattern(file, module)
    annotation = _data_annotation(handler) if "data" in parameters else None
    return Route(
        file=file,
        pattern=pattern,
        fallback=fallback,
        handler=handler,
        parameters=parameters,
        takes_request=takes_request,
        is_async=inspect.iscoroutinefunction(handler),
        timeout=config.timeout or REQUEST_TIMEOUT,
        type=config.type or _ANNOTATED_TYPES.get(annotation, "auto"),
        ordered=config.ordered is not False,
        validate=_validator(annotation),
        hooks=hooks,
    )


def _data_annotation(handler: Handler) -> Any:
    try:
        return annotation_of(handler, "data")
    except TypeError as error:
        raise _Invalid(str(error)) from None


def _validator(annotation: Any) -> Validate | None:
    try:
        return validator(annotation)
    except TypeError as error:
        raise _Invalid(f"the annotation of data cannot be checked: {error}") from None


def _pattern(file: str, module: ModuleType) -> tuple[str, bool]:
    """The path of a file: its own `path`, else its place; an index also answers below itself."""
    override = getattr(module, "path", None)
    if isinstance(override, str):
        if not override.startswith("/"):
            raise _Invalid(f"path = {excerpt(repr(override))} must begin with a slash")
        if not override.isprintable():
            raise _Invalid(f"path = {excerpt(ascii(override))} has characters that cannot be shown")
        return override, False
    if override is not None:
        raise _Invalid(f"path must be a text like '/rooms/{{room}}', not {override!r}")
    parts = Path(file).with_suffix("").parts[1:]
    if parts[-1] == "index":
        return "/" + "/".join(parts[:-1]), True
    return "/" + "/".join(parts), False


def _job_handler(file: str, module: ModuleType, hooks: Hooks) -> JobHandler | None:
    # A file without a handler may hold plain Celery tasks.
    handler = _find_handler(module)
    if handler is None:
        return None
    name = _queue_name(file)
    config = _config(module, not_for=SOCKET_ONLY, folder=SOCKETS)
    validate = _payload_validator(handler)
    if config.schedule is not None:
        _check_schedulable(validate)
    return JobHandler(
        file=file,
        name=name,
        handler=handler,
        parameters=_job_parameters(handler),
        is_async=inspect.iscoroutinefunction(handler),
        timeout=config.timeout or JOB_TIMEOUT,
        retries=JOB_RETRIES if config.retries is None else config.retries,
        backoff=config.backoff or JOB_BACKOFF,
        fifo=bool(config.fifo),
        schedule=None if config.schedule is None else schedules.parse(config.schedule),
        celery_queue=config.celery_queue,
        notify=bool(config.notify),
        http=config.http,
        validate=validate,
        hooks=hooks,
    )


def _queue_name(file: str) -> str:
    """The name of a file's queue, which becomes part of names in Redis and on the broker."""
    parts = Path(file).with_suffix("").parts[1:]
    if not all(re.fullmatch(r"[\w-]+", part) for part in parts):
        raise _Invalid(
            "a queue is named after its file: name it and its folders with letters, digits, "
            "'_' and '-' only"
        )
    return ".".join(parts)


def _payload_validator(handler: Handler) -> Validate | None:
    try:
        return payload_validator(handler)
    except TypeError as error:
        raise _Invalid(f"the payload cannot be checked: {error}") from None


def _check_schedulable(validate: Validate | None) -> None:
    """Refuse a schedule for a handler that does not take None, which schedules push: every run of
    it would fail."""
    try:
        if validate is not None:
            validate(None)
    except ClientError as error:
        raise _Invalid(
            f"its schedule pushes None, which the handler does not take ({error}): "
            "annotate the payload with … | None"
        ) from None


def _find_handler(module: ModuleType) -> Handler | None:
    handler = getattr(module, "handler", None)
    if handler is None:
        return None
    if not callable(handler):
        raise _Invalid(f"handler must be a function, not {handler!r}")
    return _as_handler(handler)


def _as_handler(function: Any) -> Handler:
    """The function; Celery's tasks and other callables are taken by what they run."""
    if inspect.isroutine(function):
        return cast("Handler", function)
    run = getattr(function, "run", None)
    return cast("Handler", run if inspect.isroutine(run) else function)


def _config(module: ModuleType, *, not_for: tuple[str, ...], folder: str) -> Config:
    """The file's options, which must be none of those for the other folder."""
    config = getattr(module, "config", None)
    if config is None:
        return Config()
    if not isinstance(config, Config):
        raise _Invalid(f"config must be a queue_run.Config, not {type(config).__name__}")
    for option in not_for:
        if getattr(config, option) is not None:
            raise _Invalid(f"Config({option}=…) is for files in {folder}/ only")
    return config


def _request_parameters(handler: Handler) -> tuple[tuple[str, ...], bool]:
    parameters = list(inspect.signature(handler).parameters.values())
    names = [each.name for each in parameters]
    if len(names) == 1 and names[0] not in REQUEST_PARAMETERS and _is_positional(parameters[0]):
        return (), True
    _refuse_unknown(parameters, REQUEST_PARAMETERS)
    return tuple(name for name in names if name in REQUEST_PARAMETERS), False


def _job_parameters(handler: Handler) -> tuple[str, ...]:
    parameters = list(inspect.signature(handler).parameters.values())
    if not parameters or not _is_positional(parameters[0]):
        raise _Invalid("handler must take the payload as its first parameter: def handler(job, …)")
    _refuse_unknown(parameters[1:], JOB_PARAMETERS)
    return tuple(each.name for each in parameters[1:] if each.name in JOB_PARAMETERS)


def _refuse_unknown(parameters: list[inspect.Parameter], known: tuple[str, ...]) -> None:
    for parameter in parameters:
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise _Invalid(f"handler takes its parameters by name: {parameter} is not possible")
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            raise _Invalid(f"handler's parameter {parameter.name!r} must not be positional-only")
        if parameter.name not in known and parameter.default is inspect.Parameter.empty:
            raise _Invalid(
                f"handler has an unknown parameter {parameter.name!r}: "
                f"it may take {', '.join(known)}"
            )


def _is_positional(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )


def _as_hook(function: Callable[..., Any], file: str) -> Hook:
    return Hook(
        function=function,
        file=file,
        is_async=inspect.iscoroutinefunction(function),
        inline=function in DEFAULTS,
    )


def _accepts(function: Callable[..., Any], arguments: tuple[str, ...]) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    return True


def _import_failure(error: BaseException, folder: Path) -> str:
    """Describe what went wrong while a file was imported, and in which line of the application."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(folder)
    ]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}"
