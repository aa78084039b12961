"""The colours of charts, by name: page.css says what they are on light and on dark paper."""

from __future__ import annotations

COLOURS = 10  # --c0 ... --c9, for kinds; ten more kinds take the same colours in another shape
VALUES = 16  # --v0 ... --v15, for numbers from low to high


def colour_style(kind: int) -> str:
    """CSS for the colour of a kind; below zero is what has no label."""
    return "var(--faint)" if kind < 0 else f"var(--c{kind % COLOURS})"
