"""The tables, from the JSON of a run."""

from typing import Any

from benchmarks import table


def results(**rounds: list[dict[str, float]]) -> dict[str, Any]:
    work = {
        "name": "round-trip",
        "title": "round trip",
        "unit": "ms per request",
        "shown": ["rate"],
        "rounds": rounds,
    }
    return {"works": [work], "floors": {"bare echo": [{"cpu": 0.07}]}}


BOTH = results(
    ours=[
        {"cpu": 0.1, "rate": 900.0},
        {"cpu": 0.14, "rate": 1200.0},
        {"cpu": 0.12, "rate": 1100.0},
    ],
    straightforward=[{"cpu": 2.0, "rate": 100.0}] * 3,
)


def test_a_line_has_medians_ratio_and_verdict() -> None:
    cpu, rate = table.lines(BOTH)
    assert cpu.values["ours"].median == 0.12
    assert cpu.ratio is not None
    assert (cpu.ratio.low, cpu.ratio.high) == (0.05, 0.07)
    assert cpu.verdict == "met"
    assert rate.verdict == "met"


def test_a_target_that_is_not_reached_is_missed() -> None:
    slow = results(ours=[{"cpu": 1.0}], straightforward=[{"cpu": 2.0}])
    assert next(table.lines(slow)).verdict == "missed"


def test_without_the_other_program_nothing_is_said_of_the_target() -> None:
    alone = results(ours=[{"cpu": 1.0, "rate": 10.0}])
    assert [line.verdict for line in table.lines(alone)] == ["not measured", "not measured"]


def test_the_terminal_shows_ours_beside_the_others() -> None:
    row = next(row for row in table.text(BOTH).splitlines() if "CPU ms per request" in row)
    assert row.split()[4:] == [
        "0.120",
        "2.00",
        "-",
        "0.060",
        "0.050-0.070",
        "≤",
        "0.08",
        "(0.05)",
        "met",
    ]
    assert "bare echo" in table.text(BOTH)


def test_markdown_has_a_row_for_each_line() -> None:
    rows = table.markdown(BOTH).splitlines()
    assert len(rows) == 4
    assert rows[2].startswith("| round trip | CPU ms per request | 0.120 | 2.00 |")
    assert "**0.060**" in rows[2]


def test_cpu_is_told_by_role() -> None:
    by_role = results(ours=[{"cpu": 1.0, "cpu server": 0.6, "cpu load": 0.1, "load's share": 0.25}])
    row = table.roles(by_role).splitlines()[1]
    assert row.split() == ["round-trip,", "ours", "0.600", "-", "-", "-", "0.100", "25%"]


def test_numbers_have_three_digits() -> None:
    assert [table.number(each) for each in (0.0123, 1.234, 12.34, 12345.6)] == [
        "0.012",
        "1.23",
        "12.3",
        "12,346",
    ]
