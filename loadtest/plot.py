"""The plot of a run: CPU per request over sizes, waiting, and every figure as a share of what it may be.

python -m loadtest.plot results.json results.png      draws it again
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from loadtest.report import read_json, shown
from loadtest.results import Figure, Result

COLOURS = {"gateway": "#0b6e99", "nginx": "#5a9a3c", "rclone": "#c77700", "direct": "#8a8a8a"}
GOOD, BAD, INK, FAINT = "#3c8a5a", "#c0392b", "#222222", "#dddddd"
HIT_KIB = {"hit_4k": 4, "hit_40k": 40, "hit_1m": 1024, "hit_8m": 8192, "hit_64m": 65536}
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#999999", "text.color": INK,
    "axes.axisbelow": True, "legend.frameon": False, "figure.facecolor": "white",
}  # fmt: skip

Rows = Mapping[str, Mapping[str, float]]
Found = Mapping[str, Result]


def draw(results: Sequence[Result], about: Mapping[str, Any], path: Path) -> None:
    """One PNG: a panel for each kind of scenario that was run, the figures on the right."""
    found = {result.scenario: result for result in results}
    panels = [panel for wanted, panel in PANELS if any(name in found and found[name].rows for name in wanted)]
    figures = [figure for result in results for figure in result.figures if figure.reach is not None]
    with plt.rc_context(STYLE):
        rows = max((len(panels) + 1) // 2, 1)
        height = max(3.4 * rows, 0.42 * len(figures) + 1.6)
        canvas = plt.figure(figsize=(15, height), layout="constrained")
        grid = canvas.add_gridspec(rows, 3, width_ratios=(1, 1, 1.25))
        for at, panel in enumerate(panels):
            last_alone = at == len(panels) - 1 and at % 2 == 0
            columns = slice(0, 2) if last_alone else slice(at % 2, at % 2 + 1)
            panel(canvas.add_subplot(grid[at // 2, columns]), found)
        _figures(canvas.add_subplot(grid[:, 2]), figures)
        canvas.suptitle(_where(about), fontsize=9, color="#666666", x=0.01, ha="left")
        canvas.savefig(path, dpi=130)
        plt.close(canvas)


def _where(about: Mapping[str, Any]) -> str:
    versions = ", ".join(
        str(about[name]) for name in ("nginx", "rclone") if about.get(name) not in (None, "none")
    )
    return (
        f"{about.get('time')}, commit {about.get('commit')}: {about.get('cpu')}, {about.get('cores')} cores, "
        f"Linux {about.get('kernel')}, TCP {about.get('congestion_control')}; {versions}; one server core"
    )


def _systems(rows: Rows) -> list[str]:
    return [name for name in COLOURS if any(row.split()[0].rstrip(",") == name for row in rows)]


def _hits(axes: Axes, found: Found) -> None:
    sizes = [name for name in HIT_KIB if name in found]
    for system in COLOURS:
        points = [(HIT_KIB[name], found[name].rows[system]) for name in sizes if system in found[name].rows]
        if points:
            across = [kib for kib, _ in points]
            values = [row["CPU µs/req"] for _, row in points]
            spread = [
                [value - row["min"] for value, (_, row) in zip(values, points, strict=True)],
                [row["max"] - value for value, (_, row) in zip(values, points, strict=True)],
            ]
            axes.errorbar(
                across, values, yerr=spread, color=COLOURS[system], marker="o", markersize=4, capsize=2,
                linewidth=2 if system == "gateway" else 1.3, label=system,
                linestyle=":" if system == "direct" else "-",
            )  # fmt: skip
    axes.set(xscale="log", yscale="log", title="Hits: server CPU per request", ylabel="µs (median, min–max)")
    axes.set_xticks([HIT_KIB[name] for name in sizes], [_size(HIT_KIB[name]) for name in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))
    axes.grid(axis="y", color=FAINT)
    axes.legend()


def _size(kib: int) -> str:
    return f"{kib} KiB" if kib < 1024 else f"{kib // 1024} MiB"


def _grouped(
    axes: Axes, rows: Rows, groups: Sequence[str], name_of: Callable[[str, str], str], column: str
) -> None:
    """Bars of `column`, one group per entry of `groups`, one bar per system, each with its value on top."""
    systems = _systems(rows)
    width = 0.8 / max(len(systems), 1)
    for at, system in enumerate(systems):
        values = [rows.get(name_of(system, group), {}).get(column, 0.0) for group in groups]
        places = [number + (at - (len(systems) - 1) / 2) * width for number in range(len(groups))]
        bars = axes.bar(places, values, width * 0.92, color=COLOURS[system], label=system)
        axes.bar_label(
            bars, labels=[shown(value) if value else "" for value in values], padding=2, fontsize=8
        )
    axes.set_xticks(range(len(groups)), groups)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y", color=FAINT)
    axes.margins(y=0.3)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))
    axes.legend()


def _misses(axes: Axes, found: Found) -> None:
    rows = found["miss"].rows
    _grouped(axes, rows, ("4 KiB", "1 MiB", "8 MiB"), lambda system, size: f"{system} {size}", "CPU µs/req")
    axes.set(yscale="log", ylim=(10, None), title="Misses: server CPU per request", ylabel="µs")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))


def _pages(axes: Axes, found: Found) -> None:
    rows = found["page_cold"].rows
    conditions = ("idle", "warm stream", "cold stream")
    _grouped(axes, rows, conditions, lambda system, condition: f"{system}, {condition}", "p99 µs")
    axes.set(yscale="log", ylim=(10, None), title="4 KiB hits beside a stream of 64 MiB: p99", ylabel="µs")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))


def _cold(axes: Axes, found: Found) -> None:
    _grouped(axes, found["cold_stream"].rows, ("",), lambda system, _: system, "seconds")
    axes.set(title="One cold 64 MiB object, 50 ms away", ylabel="seconds (boto3)")


def _memory(axes: Axes, found: Found) -> None:
    rows: dict[str, Mapping[str, float]] = {}
    groups = []
    for name, label in (
        ("slow_readers", "500 slow readers"),
        ("uploads", "8 × PUT"),
        ("uploads", "8 × multipart"),
    ):
        if name in found:
            groups.append(label)
            suffix = {"8 × PUT": " PUT", "8 × multipart": " multipart"}.get(label, "")
            for system in COLOURS:
                row = found[name].rows.get(system + suffix)
                if row:
                    rows[f"{system} {label}"] = row
    _grouped(axes, rows, groups, lambda system, label: f"{system} {label}", "peak MiB")
    axes.axhline(200, color=BAD, linewidth=1, linestyle="--")
    axes.set(title="Anonymous memory, largest process: peak", ylabel="MiB")


def _workers(axes: Axes, found: Found) -> None:
    rows = found["workers_2"].rows
    _grouped(axes, rows, ("×1 4k", "×2 4k"), lambda system, group: f"{system} {group}", "CPU µs/req")
    axes.set_xticks(range(2), ("one worker", "two workers"))
    axes.set(title="4 KiB hits, one store: CPU per request", ylabel="µs")


def _figures(axes: Axes, figures: Sequence[Figure]) -> None:
    """Each figure as measured / reach (the inverse where more is better): left of 1 is reached."""
    places = range(len(figures), 0, -1)
    axes.axvline(1, color=INK, linewidth=1, zorder=1.5)
    for place, figure in zip(places, figures, strict=True):
        assert figure.reach is not None
        axes.text(0.01, place + 0.36, figure.what, fontsize=8.5, va="center", bbox=PAPER,
                  transform=axes.get_yaxis_transform())  # fmt: skip
        if figure.measured is None:
            axes.text(0.01, place, "not measured", fontsize=8, va="center", color="#999999", style="italic",
                      transform=axes.get_yaxis_transform())  # fmt: skip
            continue
        share = figure.reach / figure.measured if figure.at_least else figure.measured / figure.reach
        axes.barh(place, min(share, 2.0), height=0.34, color=GOOD if figure.ok else BAD)
        sign = "≥" if figure.at_least else "≤"
        said = f"{shown(figure.measured)} {figure.unit}   ({sign} {shown(figure.reach)})"
        beyond = " »" if share > 2 else ""
        axes.text(min(share, 2.0) + 0.03, place, said + beyond, fontsize=8, va="center", bbox=PAPER)
    axes.set(
        title="Figures: measured / reach (left of 1: reached)", xlim=(0, 2.75), ylim=(0.4, len(figures) + 0.8)
    )
    axes.set_xticks([0, 0.5, 1, 1.5, 2], ["0", "½", "1", "1½", "≥ 2"])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=FAINT)


PANELS: tuple[tuple[Sequence[str], Callable[[Axes, Found], None]], ...] = (
    (tuple(HIT_KIB), _hits),
    (("miss",), _misses),
    (("page_cold",), _pages),
    (("cold_stream",), _cold),
    (("slow_readers", "uploads"), _memory),
    (("workers_2",), _workers),
)


if __name__ == "__main__":
    draw(*read_json(Path(sys.argv[1])), Path(sys.argv[2]))
