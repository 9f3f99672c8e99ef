"""Environments: of this process with its options, and of the processes that `dev` starts.

Options are variables in disguise: a command writes them into a copy of the environment, reads its
settings from that, and hands the same copy to what it starts. So both always agree.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from queue_run.settings import Settings, variable_name, words


def with_options(environ: Mapping[str, str], **options: str | int | Path | None) -> dict[str, str]:
    """The environment with the options that were given, each named like its setting."""
    given = {
        variable_name(name): str(value) for name, value in options.items() if value is not None
    }
    return {**environ, **given}


def is_set(environ: Mapping[str, str], setting: str) -> bool:
    """True if a variable has a value; an empty one counts as not set, as in `Settings`."""
    return bool(environ.get(variable_name(setting), "").strip())


#: Names of this machine that nobody else can give to it.
LOOPBACK = ("localhost", ".localhost", "127.0.0.0/8", "::1")
#: What listens on all addresses may be called by any of them. No page is of an address by which it
#: was not called, so that is no danger.
ANY_ADDRESS = ("0.0.0.0/0", "::/0")


def _hosts_of(settings: Settings) -> str:
    """The names by which the push server may be called in development."""
    own = ANY_ADDRESS if settings.host in ("", "0.0.0.0", "::") else (settings.host,)
    return ",".join((*LOOPBACK, *own, *words(settings.allowed_hosts)))


def for_development(
    environ: Mapping[str, str], settings: Settings, *, redis_url: str, port: int
) -> dict[str, str]:
    """Make the environment of the processes of `queue-run dev` from the one that it was given."""
    app = settings.app_path
    child = with_options(environ, redis_url=redis_url, port=port, app_dir=app)
    # Their output is a pipe, which Python would fill before it writes a line.
    child["PYTHONUNBUFFERED"] = "1"
    child = with_options(child, allowed_hosts=_hosts_of(settings))
    if not is_set(environ, "expose_errors"):
        child = with_options(child, expose_errors="true")
    if is_set(environ, "public_dir"):
        # A relative folder is one below the user's working directory, not below the application's.
        child = with_options(child, public_dir=os.path.realpath(settings.public_dir))
    elif (app / "public").is_dir():
        child = with_options(child, public_dir=app / "public")
    return child
