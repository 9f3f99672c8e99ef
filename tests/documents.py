"""Documents that hold what a program has measured."""

from pathlib import Path


def put_between(path: Path, begin: str, end: str, text: str) -> None:
    """Replace what a document has between two markers.

    Raises:
        ValueError: for a document without them.
    """
    before, found_begin, rest = path.read_text().partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"{path} lacks the markers of the table")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def between(path: Path, begin: str, end: str) -> str:
    """What a document has between two markers; empty without them."""
    return path.read_text().partition(begin)[2].partition(end)[0].strip("\n")
