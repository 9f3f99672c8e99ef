"""The table goes between its markers, and nowhere else."""

from pathlib import Path

import pytest

from tests.faults import report
from tests.faults.report import BEGIN, END, GUARANTEES, Row

KILL = Row(fault="a kill", load="10 clients", shown="lost 0", passed=True)
CUT = Row(fault="a cut", load="9 clients", shown="lost 0", passed=True)
ORDER = ["kills", "cuts"]


def test_a_row_says_whether_it_passed() -> None:
    assert str(KILL).startswith("ok ")
    failed = Row(fault="a kill", load="10 clients", shown="lost 1", passed=False)
    assert str(failed).startswith("FAIL")


def written(document: Path) -> list[str]:
    """The lines of the table, without its head."""
    text = document.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"\n{END}\nafter\n")
    lines = text.splitlines()[2:-2]
    assert lines[:2] == ["| | fault | load | seen |", "|---|---|---|---|"]
    return lines[2:]


def test_the_lines_of_a_run_replace_those_before_and_no_others(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    report.write({"cuts": CUT, "gone": CUT}, ORDER, document)
    cut = "| `cuts` | a cut | 9 clients | lost 0 |"
    assert written(document) == [cut]
    report.write({"kills": KILL}, ORDER, document)
    assert written(document) == ["| `kills` | a kill | 10 clients | lost 0 |", cut]
    better = Row(fault="a kill", load="20 clients", shown="lost 0", passed=True)
    report.write({"kills": better}, ORDER, document)
    assert written(document) == ["| `kills` | a kill | 20 clients | lost 0 |", cut]


def test_a_document_without_markers_is_refused(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("nothing\n")
    with pytest.raises(ValueError, match="lacks the markers"):
        report.write({"kills": KILL}, ORDER, document)
    assert document.read_text() == "nothing\n"


def test_the_guarantees_have_the_markers() -> None:
    text = GUARANTEES.read_text()
    assert text.index(BEGIN) < text.index(END)
