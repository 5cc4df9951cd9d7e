"""The tables of docs/leaderboard.md and their picture, from benchmarks/leaderboard.json.

    python benchmarks/leaderboard_page.py

Replaces what lies between the page's marks; the sentences around it are written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # draws files, and needs no window
import matplotlib.pyplot as plt

HOME = Path(__file__).resolve().parent.parent
RESULTS = HOME / "benchmarks" / "leaderboard.json"
PAGE = HOME / "docs" / "leaderboard.md"
PICTURE = HOME / "docs" / "images" / "leaderboard.png"
BEGIN, END = "<!-- tables -->", "<!-- end of tables -->"
COLOURS = {
    "control": "#8a8a8a",
    "seed": "#b8860b",
    "published": "#3b6ea5",
    "head": "#6f9f6f",
    "joined": "#c23b22",
    "ceiling": "#000000",
}


def main() -> None:
    """Write the tables into the page, and the picture beside it."""
    boards = json.loads(RESULTS.read_text(encoding="utf-8"))["boards"]
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables(boards)}\n{END}{after}", encoding="utf-8")
    draw(boards)
    print(f"written: {PAGE}, {PICTURE}")


def tables(boards: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table for each board."""
    return "\n".join(line for board in boards.values() for line in table(board))


def table(board: Mapping[str, Any]) -> Iterator[str]:
    """The lines of one board's table, in percent; in bold what joined evidence has."""
    yield f"### {board['title']}\n"
    for group in ("near", "far"):
        yield f"{group.capitalize()}: {', '.join(board[group])}.\n"
    yield (
        "| detector | calls | ms | near | far | AUROC, all | worst set | AUPR-out | FPR95 "
        "| below a control |"
    )
    yield "|---|--:|--:|--:|--:|--:|---|--:|--:|--:|"
    for row in board["rows"]:
        yield f"| {' | '.join(cells(row))} |"
    yield ""


def cells(row: Mapping[str, Any]) -> Iterator[str]:
    """The cells of one row."""
    means, sets = row["means"], row["sets"]
    worst = min(sets, key=lambda name: float(sets[name]["auroc"]["value"]))
    yield f"**{row['name']}**" if row["kind"] == "joined" else row["name"]
    yield "" if row["calls"] is None else str(row["calls"])
    yield "" if row["milliseconds"] is None else f"{row['milliseconds']:.0f}"
    for group in ("near", "far"):
        yield percent(means[group]["auroc"]["value"]) if means[group] else ""
    found = means["all"]["auroc"]
    bounds = f"[{percent(found['low'])}, {percent(found['high'])}]"
    yield f"{percent(found['value'])} {bounds}"
    yield f"{worst} {percent(sets[worst]['auroc']['value'])}"
    for metric in ("aupr_out", "fpr95"):
        yield percent(means["all"][metric]["value"])
    yield str(len(row["below_control"])) if row["below_control"] else ""


def percent(value: float) -> str:
    """Show 0.979 as "97.9"."""
    return f"{100 * value:.1f}"


def draw(boards: Mapping[str, Mapping[str, Any]]) -> None:
    """Mean AUROC against network calls, a panel a board."""
    figure, panels = plt.subplots(
        1, len(boards), figsize=(3.6 * len(boards), 3.8), sharey=True, squeeze=False
    )
    for axes, board in zip(panels[0], boards.values(), strict=True):
        for kind, colour in COLOURS.items():
            rows = [row for row in board["rows"] if row["kind"] == kind and row["calls"]]
            calls = [row["calls"] for row in rows]
            values = [100 * row["means"]["all"]["auroc"]["value"] for row in rows]
            style = "o-" if kind == "joined" else "o"
            axes.plot(calls, values, style, color=colour, label=kind, markersize=5, alpha=0.85)
        ceiling = next((row for row in board["rows"] if row["kind"] == "ceiling"), None)
        if ceiling:
            value = 100 * ceiling["means"]["all"]["auroc"]["value"]
            axes.axhline(value, color=COLOURS["ceiling"], linestyle=":", label="ceiling")
        axes.axhline(50, color="#cccccc", linewidth=0.8)
        axes.set(xscale="log", title=board["title"], xlabel="network calls an image")
    panels[0][0].set_ylabel("mean AUROC, %")
    handles, labels = panels[0][0].get_legend_handles_labels()
    kept = {label: handle for handle, label in zip(handles, labels, strict=True)}
    figure.legend(kept.values(), kept, loc="lower center", ncol=len(kept), frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(PICTURE, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
