"""The table goes between its markers, and nowhere else."""

from pathlib import Path

import pytest

from tests.faults import report
from tests.faults.report import BEGIN, END, GUARANTEES, Row

ROWS = [Row(fault="a kill", load="10 clients", shown="lost 0", passed=True)]


def test_a_row_says_whether_it_passed() -> None:
    assert str(ROWS[0]).startswith("ok ")
    failed = Row(fault="a kill", load="10 clients", shown="lost 1", passed=False)
    assert str(failed).startswith("FAIL")


def test_the_table_replaces_the_one_before(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    report.write(ROWS, document)
    table = "| fault | load | seen |\n|---|---|---|\n| a kill | 10 clients | lost 0 |"
    assert document.read_text() == f"before\n{BEGIN}\n{table}\n{END}\nafter\n"


def test_a_document_without_markers_is_refused(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("nothing\n")
    with pytest.raises(ValueError, match="lacks the markers"):
        report.write(ROWS, document)
    assert document.read_text() == "nothing\n"


def test_the_guarantees_have_the_markers() -> None:
    text = GUARANTEES.read_text()
    assert text.index(BEGIN) < text.index(END)
