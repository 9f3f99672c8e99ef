"""What a figure was measured on."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from queue_run.cli.development.redis_server import embedded as embedded_redis

PACKAGES = ("celery", "kombu", "redis", "tornado", "picows", "python-socketio", "uvicorn")


def facts() -> dict[str, str]:
    """Processor, cores and versions; nothing that names the machine."""
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "redis-server": _redis_version(),
        **{name: version for name, version in versions.items() if version},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _redis_version() -> str:
    source = embedded_redis.on_path() or embedded_redis.bundled()
    if source is None:
        return ""
    command = [str(source.command(0, Path("."))[0]), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return next((word[2:] for word in said.split() if word.startswith("v=")), "")
