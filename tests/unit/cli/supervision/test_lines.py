"""Bytes become lines."""

from queue_run.cli.supervision.lines import MAX_LINE_BYTES, LineSplitter


def test_a_line_that_comes_in_pieces_is_given_once_it_is_whole() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"one\ntw") == ["one"]
    assert splitter.feed(b"o\r\n\nthr") == ["two", ""]
    assert splitter.feed(b"ee\n") == ["three"]
    assert splitter.flush() == []


def test_a_last_line_without_a_newline_is_given() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"end") == []
    assert splitter.flush() == ["end"]
    assert splitter.flush() == []


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert LineSplitter().feed(b"caf\xe9 \xff\n") == ["caf\ufffd \ufffd"]


def test_a_character_that_comes_in_two_pieces_is_whole() -> None:
    splitter = LineSplitter()
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert splitter.feed(b"caf" + first) == []
    assert splitter.feed(second + b"\n") == ["café"]


def test_output_without_newlines_is_cut() -> None:
    splitter = LineSplitter()
    lines = splitter.feed(b"x" * (2 * MAX_LINE_BYTES + 5))
    assert [len(line) for line in lines] == [MAX_LINE_BYTES, MAX_LINE_BYTES]
    assert splitter.flush() == ["x" * 5]
