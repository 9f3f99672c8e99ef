"""Checks that `queue-run dev` makes before it starts anything."""

import errno
import importlib.util
import socket
from pathlib import Path

from queue_run.cli.command_line.errors import CommandError, check_not_hidden


def check_extra() -> None:
    """Check that the package for watching files is installed; production does without it.

    Raises:
        CommandError: if it is missing.
    """
    if importlib.util.find_spec("watchfiles") is None:
        raise CommandError(
            "'queue-run dev' needs the package watchfiles: pip install 'queue-run[dev]'"
        )


def check_application(folder: Path) -> None:
    """Check that a folder can be an application's.

    Raises:
        CommandError: if there is nothing to serve, or it hides a module of the framework.
    """
    if not (folder / "sockets").is_dir() and not (folder / "queues").is_dir():
        raise CommandError(
            f"{folder} has no folder sockets/ and none named queues/: start in the application's "
            "folder, or name it with --app DIR (QUEUE_RUN_APP_DIR)"
        )
    check_not_hidden(folder)


def usable_port(host: str, port: int, *, shared: bool = False) -> int:
    """The port, known to be free a moment ago; a free one for 0.

    Raises:
        CommandError: if it cannot be had.
    """
    try:
        return _try_port(host, port, shared=shared)
    except socket.gaierror as error:
        raise CommandError(f"QUEUE_RUN_HOST={host!r}: {error.strerror}") from None
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "is taken by another process" if taken else f"cannot be used ({error.strerror})"
        other = port + 1 if 1024 <= port < 65535 else 8001
        raise CommandError(
            f"port {port} {reason}: choose another with "
            f"'PORT={other} queue-run dev' or 'queue-run dev --port {other}'"
        ) from None


def _try_port(host: str, port: int, *, shared: bool) -> int:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        # As the server will: what is left of earlier connections is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared and hasattr(socket, "SO_REUSEPORT"):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind(address)
        chosen: int = probe.getsockname()[1]
        return chosen
