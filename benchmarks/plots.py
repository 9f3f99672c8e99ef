"""Plots in one manner: light, without a frame, and the same from the same figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from tests.processes import ROOT

FOLDER = ROOT / "docs" / "benchmarks"
COLOURS = {
    "ours": "#1f6feb",
    "straightforward": "#8c959f",
    "socketio": "#d4a72c",
    "server": "#1f6feb",
    "worker": "#2da44e",
    "redis": "#cf222e",
    "publisher": "#8250df",
}
NAMES = {"ours": "queue-run", "straightforward": "Tornado + Celery", "socketio": "python-socketio"}
#: The same where there is little room.
SHORT_NAMES = {
    "ours": "queue-run",
    "straightforward": "Tornado\n+ Celery",
    "socketio": "python-\nsocketio",
}

mpl.use("svg")
mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        # The ids in the file would else be random.
        "svg.hashsalt": "queue-run",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e6e8eb",
        "axes.edgecolor": "#8c959f",
        "figure.facecolor": "white",
        "figure.dpi": 100,
    }
)


def save(name: str) -> Path:
    """Write the plot that was drawn last."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.svg"
    pyplot.tight_layout()
    pyplot.savefig(path, metadata={"Date": None})
    pyplot.close()
    return path


def relative(
    name: str,
    rows: Sequence[tuple[str, Mapping[str, float], float | None]],
    *,
    title: str,
) -> Path:
    """Bars beside the straightforward program's, which is 1; a line marks the target.

    Args:
        rows: what was done, each program's ratio, and the target.
    """
    _, axes = pyplot.subplots(figsize=(8, 0.62 * len(rows) + 1.3))
    programs = ("ours", "socketio")
    for number, program in enumerate(programs):
        places = [row + 0.19 - 0.38 * (1 - number) for row in range(len(rows))]
        values = [each.get(program, 0) for _, each, _ in rows]
        bars = axes.barh(places, values, 0.36, color=COLOURS[program], label=NAMES[program])
        axes.bar_label(bars, [f"{v:.2f}" if v else "" for v in values], padding=4, fontsize=9)
    for row, (_, _, target) in enumerate(rows):
        if target is not None:
            axes.plot([target, target], [row - 0.42, row + 0.02], color="#1b1f24", lw=1.6)
    axes.plot([], [], color="#1b1f24", lw=1.6, label="target")
    axes.axvline(1, color=COLOURS["straightforward"], lw=1.4, label=NAMES["straightforward"])
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_title(title, loc="left", fontsize=11)
    axes.margins(y=0.02)
    axes.legend(frameon=False, fontsize=9, ncols=4, loc="upper left", bbox_to_anchor=(-0.35, -0.05))
    return save(name)


def stacked(name: str, groups: Sequence[tuple[str, Mapping[str, Mapping[str, float]]]]) -> Path:
    """CPU by process role: a panel for each work, a bar for each program."""
    figure, panels = pyplot.subplots(1, len(groups), figsize=(2.6 * len(groups), 3.4))
    for axes, (title, programs) in zip(panels, groups, strict=True):
        bottom = [0.0] * len(programs)
        for role in ("server", "worker", "redis"):
            values = [each.get(role, 0) for each in programs.values()]
            labels = [
                NAMES[program].replace(" + ", "\n+ ").replace("-s", "-\ns") for program in programs
            ]
            axes.bar(labels, values, 0.62, bottom=bottom, color=COLOURS[role], label=role)
            bottom = [a + b for a, b in zip(bottom, values, strict=True)]
        axes.set_title(title, fontsize=9.5)
        axes.tick_params(axis="x", labelsize=7.5)
        axes.grid(visible=False, axis="x")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=3, loc="lower center", fontsize=9)
    figure.subplots_adjust(bottom=0.3)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.svg"
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def growth(
    name: str,
    panels: Sequence[tuple[str, Mapping[str, Sequence[float]]]],
    *,
    x: Sequence[float],
    label: str,
    logarithmic: bool = False,
) -> Path:
    """Lines over what grows, a panel for each unit."""
    _, found = pyplot.subplots(1, len(panels), figsize=(4.1 * len(panels), 3.2), squeeze=False)
    for axes, (unit, lines) in zip(found[0], panels, strict=True):
        for line, values in lines.items():
            axes.plot(x[-len(values) :], values, marker="o", ms=4, lw=1.6, label=line)
        axes.set_ylim(0, 1.12 * max(max(values) for values in lines.values()))
        _x_axis(axes, x, label, logarithmic)
        axes.set_title(unit, loc="left", fontsize=10)
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=8.5)
    return save(name)


def _x_axis(axes: Axes, x: Sequence[float], label: str, logarithmic: bool) -> None:
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xticks(list(x))
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel(label)


def _short(value: float) -> str:
    """Like 5k: ticks stand close together."""
    return f"{value / 1000:g}k" if value >= 1000 and value % 1000 == 0 else f"{value:,.0f}"
