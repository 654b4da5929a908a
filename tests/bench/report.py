"""What was measured, as a table, as JSON and as a picture."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """
    Two things measured in turn, and their ratio.

    Attributes:
        goal: The largest ratio that is good; None where none was set.

        unit: Of the measured values: ``s`` or ``MB``.
    """

    letter: str
    what: str
    beside: str
    goal: float | None
    unit: str
    values: tuple[float, ...]
    others: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The ratio of the medians."""
        return statistics.median(self.values) / statistics.median(self.others)

    @property
    def ratios(self) -> list[float]:
        """The ratio of each turn, smallest first."""
        return sorted(one / other for one, other in zip(self.values, self.others, strict=True))

    def as_json(self) -> dict:
        """Everything that was measured."""
        return asdict(self) | {"ratio": self.ratio, "ratios": self.ratios}


def table(pairs: Sequence[Pair]) -> str:
    """The pairs as a table in Markdown."""
    lines = [
        "| | measured | beside | ratio of medians | each turn | at most | medians |",
        "|---|---|---|---|---|---|---|",
    ]
    for pair in pairs:
        spread = f"{pair.ratios[0]:.2f} to {pair.ratios[-1]:.2f}, {len(pair.ratios)} turns"
        goal = "" if pair.goal is None else f"{pair.goal:g}"
        medians = " : ".join(f"{statistics.median(values):.3g} {pair.unit}" for values in (pair.values, pair.others))
        lines.append(
            f"| {pair.letter} | {pair.what} | {pair.beside} | {pair.ratio:.2f} | {spread} | {goal} | {medians} |"
        )
    return "\n".join(lines)


def draw(pairs: Sequence[Pair], path: Path) -> None:
    """Draw the ratio of each turn, the ratio of the medians and the goal."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.7 * len(pairs) + 1.2), layout="constrained")
    axes = figure.subplots()
    for row, pair in enumerate(pairs):
        axes.plot(pair.ratios, [row] * len(pair.ratios), "o", color="#7a8fa6", alpha=0.6, markersize=5)
        axes.plot([pair.ratio], [row], "|", color="#1b3a57", markersize=18, markeredgewidth=3)
        if pair.goal is not None:
            axes.plot([pair.goal], [row], "<", color="#b3541e", markersize=8)
    axes.set_yticks(range(len(pairs)), [f"({pair.letter}) {pair.what}" for pair in pairs])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("ratio; bar: ratio of the medians, dots: each turn, triangle: at most")
    axes.grid(axis="x", which="both", alpha=0.2)
    figure.savefig(path, dpi=110, metadata={"Software": None})
