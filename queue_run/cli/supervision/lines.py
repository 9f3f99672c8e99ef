"""Bytes of a process's output as lines of text."""

#: A longer line is cut into pieces, so that output without a newline cannot fill the memory.
MAX_LINE_BYTES = 64 * 1024


class LineSplitter:
    """Takes bytes as they come, gives lines: decoded, without their ends."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that these bytes complete."""
        *lines, rest = (self._rest + data).split(b"\n")
        while len(rest) > MAX_LINE_BYTES:
            lines.append(rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        self._rest = rest
        return [_text(line) for line in lines]

    def flush(self) -> list[str]:
        """The last line, if nothing ended it."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", errors="replace")
