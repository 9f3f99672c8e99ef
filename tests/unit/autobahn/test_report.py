"""Reports of the conformance suite are read as they are meant."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.autobahn import report
from tests.autobahn.report import BEGIN, END, GUARANTEES, Case, Verdict


def leave(folder: Path, **behaviors: tuple[str, str]) -> None:
    """Write what the suite writes; cases are given as `c1_2_3=(behavior, behavior_close)`."""
    entries = {}
    for name, (behavior, behavior_close) in behaviors.items():
        case_id = name.removeprefix("c").replace("_", ".")
        entries[case_id] = {
            "behavior": behavior,
            "behaviorClose": behavior_close,
            "duration": 2,
            "remoteCloseCode": 1000,
            "reportfile": f"{name}.json",
        }
        (folder / f"{name}.json").write_text(json.dumps(DETAILS))
    (folder / "index.json").write_text(json.dumps({"direct": entries}))


DETAILS: dict[str, Any] = {
    "description": "Send a close frame.<br><br>Its code is <b>999</b>.",
    "expectation": "Clean close with 1002.",
    "result": "Actual events match at least one expected.",
    "expected": {"OK": []},
    "received": [["message", "hello", False]],
    "resultClose": "The close code should have been 1002 or empty",
    "expectedClose": {"closeCode": [1002], "closedByMe": True, "requireClean": True},
    "remoteCloseCode": 999,
    "remoteCloseReason": None,
    "wasClean": True,
    "wasNotCleanReason": None,
}


@pytest.mark.parametrize(
    ("behavior", "behavior_close", "verdict"),
    [
        ("OK", "OK", Verdict.OK),
        ("OK", "INFORMATIONAL", Verdict.OK),
        ("NON-STRICT", "OK", Verdict.NON_STRICT),
        ("INFORMATIONAL", "INFORMATIONAL", Verdict.INFORMATIONAL),
        ("UNIMPLEMENTED", "OK", Verdict.UNIMPLEMENTED),
        ("UNIMPLEMENTED", "FAILED", Verdict.UNIMPLEMENTED),
        ("FAILED", "OK", Verdict.FAILED),
        ("OK", "FAILED", Verdict.FAILED),
        ("OK", "WRONG CODE", Verdict.FAILED),
        ("NON-STRICT", "UNCLEAN", Verdict.FAILED),
        ("OK", "FAILED BY CLIENT", Verdict.FAILED),
        ("something new", "OK", Verdict.FAILED),
    ],
)
def test_a_case_passes_when_its_messages_and_its_close_were_in_order(
    behavior: str, behavior_close: str, verdict: Verdict
) -> None:
    assert report.verdict_of(behavior, behavior_close) is verdict


def test_reports_are_read_in_the_order_that_was_wanted(tmp_path: Path) -> None:
    leave(tmp_path, c10_1_1=("OK", "OK"), c6_4_1=("NON-STRICT", "OK"))
    assert report.read(tmp_path, "direct", ["6.4.1", "10.1.1"]) == [
        Case(id="6.4.1", way="direct", verdict=Verdict.NON_STRICT),
        Case(id="10.1.1", way="direct", verdict=Verdict.OK),
    ]


def test_a_failure_says_what_was_expected_and_what_came(tmp_path: Path) -> None:
    leave(tmp_path, c7_9_1=("OK", "WRONG CODE"))
    [case] = report.read(tmp_path, "direct", ["7.9.1"])
    assert case.verdict is Verdict.FAILED
    assert str(case).startswith("direct 7.9.1: failed\n  what: Send a close frame. Its code is 999")
    assert "expectation: Clean close with 1002." in case.detail
    assert "WRONG CODE: The close code should have been 1002 or empty" in case.detail
    assert "received: code 999" in case.detail


def test_a_case_without_a_report_has_failed(tmp_path: Path) -> None:
    leave(tmp_path, c1_1_1=("OK", "OK"))
    cases = report.read(tmp_path, "direct", ["1.1.1", "1.1.2"])
    assert [case.id for case in report.failures(cases)] == ["1.1.2"]


def test_a_run_that_left_no_report_has_failed(tmp_path: Path) -> None:
    cases = report.read(tmp_path, "direct", ["1.1.1", "1.1.2"])
    assert [case.id for case in report.failures(cases)] == ["1.1.1", "1.1.2"]


def test_the_table_counts_by_section_and_names_failures() -> None:
    cases = [
        Case(id="7.10.1", way="direct", verdict=Verdict.FAILED),
        Case(id="7.9.1", way="direct", verdict=Verdict.FAILED),
        Case(id="7.9.1", way="queued", verdict=Verdict.FAILED),
        Case(id="7.1.1", way="direct", verdict=Verdict.OK),
        Case(id="13.1.1", way="direct", verdict=Verdict.UNIMPLEMENTED),
    ]
    assert report.table(cases).splitlines() == [
        "| section | cases | OK | non-strict | informational | unimplemented | failed |",
        "|---|---|---|---|---|---|---|",
        "| 7 closing handshake | 4 | 1 | 0 | 0 | 0 | 3 (7.9.1 7.10.1) |",
        "| 13 compression, with parameters | 1 | 0 | 0 | 0 | 1 | 0 |",
        "| all | 5 | 1 | 0 | 0 | 1 | 3 (7.9.1 7.10.1) |",
    ]


def test_the_guarantees_have_the_markers() -> None:
    text = GUARANTEES.read_text()
    assert text.index(BEGIN) < text.index(END)
