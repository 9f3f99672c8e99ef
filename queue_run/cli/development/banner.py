"""The lines that `queue-run dev` shows when everything is up."""

from pathlib import Path


def address(host: str, port: int) -> str:
    """Host and port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def rows(*, host: str, port: int, app: Path, redis_url: str) -> list[str]:
    """The banner's lines; the first is its headline."""
    where = address(host, port)
    return [
        f"Ready: http://{where}/",
        "",
        f"WebSocket    ws://{where}/",
        f"Application  {app}",
        "             Its files are watched: workers restart, connections stay open.",
        "",
        "For scripts and other processes:",
        f"REDIS_URL={redis_url}",
        "",
        "Ctrl+C stops everything.",
    ]
