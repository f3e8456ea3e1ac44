"""One colour and one marker per way to choose heads and per kind of needle, the same in every figure."""

from __future__ import annotations

from typing import NamedTuple

from rampipe.report.style import DARK, LIGHT, Theme

DENSE = "dense"
NONE = "none"
EVERY = "every"
"""Of the speed figure: untouched attention, every head restricted, and no head restricted."""
REST = "rest"
"""Heads that are in no set that a figure shows."""


class Look(NamedTuple):
    """marker: of matplotlib."""

    colour: str
    marker: str


_LOOKS: dict[str, tuple[str, str, str]] = {
    "top": (LIGHT.accent, DARK.accent, "o"),
    "bottom": (LIGHT.second, DARK.second, "v"),
    "bottom_idle": ("#3b3a9e", "#a5a3ff", "<"),
    "random": (LIGHT.muted, DARK.muted, "s"),
    "layer_matched_random": ("#009e73", "#3cc9a0", "D"),
    "band": ("#aa4499", "#e08fd0", "^"),
    "cumulative_mass": ("#b07d00", "#f0c24b", "P"),
    "from_list": ("#7a4a21", "#d3a57c", "h"),
    NONE: (LIGHT.ink, DARK.ink, "x"),
    EVERY: (LIGHT.ink, DARK.ink, "p"),
    DENSE: (LIGHT.ink, DARK.ink, "*"),
    REST: (LIGHT.muted, DARK.muted, "."),
    "all samples": (LIGHT.second, DARK.second, "o"),
    "image needles": (LIGHT.accent, DARK.accent, "o"),
    "text needles": (LIGHT.second, DARK.second, "v"),
    "image only": (LIGHT.accent, DARK.accent, "o"),
    "text only": (LIGHT.second, DARK.second, "v"),
    "shared": ("#009e73", "#3cc9a0", "D"),
}
"""Light, dark, marker; Okabe and Ito's palette where it is dark enough for its page."""


def look(strategy: str, theme: Theme) -> Look:
    """Of a strategy, or of one of the marks above; a strategy that is not known is a plain point in ink."""
    light, dark, marker = _LOOKS.get(strategy, (LIGHT.ink, DARK.ink, "."))
    return Look(dark if theme.name == DARK.name else light, marker)
