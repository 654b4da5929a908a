"""The response time over past rehearsals as a picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# Ink, soft, good, bad: on white paper, and on a dark screen.
_LIGHT = ("#1b1f24", "#57606a", "#116329", "#a40e26")
_DARK = ("#e9edf1", "#a8b1bb", "#6fdd8b", "#ff9a9e")

# Dates beside the axis; more would run into each other. The latest is always among them.
LABELS_MAX = 6


def draw(frame: pd.DataFrame, *, dark: bool = False) -> bytes:
    """
    Draw the response time of each rehearsal, in seconds, against its date; a cross is one that was not green.

    Args:
        frame: As `trend.frame_of` makes it; rows without a response time are left out.

        dark: Whether it is for a dark screen; the paper itself is transparent.

    Returns:
        A PNG.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    ink, soft, good, bad = _DARK if dark else _LIGHT
    timed = frame[frame["response_s"].notna()]
    numbers = list(range(1, len(timed) + 1))
    seconds: list[Any] = list(timed["response_s"])
    figure = Figure(figsize=(5.2, 2.1), dpi=160)
    axes = figure.subplots()
    axes.plot(numbers, seconds, color=soft, linewidth=1)
    for green, marker, colour in ((True, "o", good), (False, "x", bad)):
        chosen = [(n, s) for n, s, is_green in zip(numbers, seconds, timed["green"], strict=True) if is_green is green]
        axes.plot([n for n, _ in chosen], [s for _, s in chosen], marker, color=colour)
    axes.set_ylim(bottom=0, top=max(seconds, default=1) * 1.25)
    axes.set_xlim(0.5, max(len(numbers), 1) + 0.5)
    marked = numbers[:: -(len(numbers) // LABELS_MAX + 1)]
    days = [f"{at:%Y-%m-%d}" for at in timed["at"]]
    axes.set_xticks(marked, [days[number - 1] for number in marked])
    axes.set_ylabel("seconds", fontsize=8, color=ink)
    axes.tick_params(labelsize=7, colors=ink)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(soft)
    figure.tight_layout()
    file = io.BytesIO()
    figure.savefig(file, format="png", transparent=True, metadata={"Software": None})
    return file.getvalue()
