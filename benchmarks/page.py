"""Pages of the docs of which a part is written by a run."""

from pathlib import Path

BEGIN = "<!-- begin: written by `{command}` -->"
END = "<!-- end -->"


def put(path: Path, command: str, text: str) -> None:
    """Replace what is between the markers.

    Raises:
        ValueError: when the page lacks them.
    """
    begin = BEGIN.format(command=command)
    before, found, rest = path.read_text().partition(begin)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{path.name} lacks the markers {begin} and {END}")
    path.write_text(f"{before}{begin}\n{text}\n{END}{after}")


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def measured_on(facts: dict[str, str]) -> str:
    """One sentence on the machine."""
    versions = ", ".join(
        f"{name} {facts[name]}"
        for name in ("redis-server", "celery", "tornado", "python-socketio", "uvicorn")
        if facts.get(name)
    )
    return (
        f"Measured on {facts['cores']} cores ({facts['processor']}), {facts['system']}, "
        f"Python {facts['python']}, {versions}."
    )
