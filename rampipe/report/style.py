"""The look that all figures share: two themes, plain axes, safe text, and PNG bytes that are the same each time.

Figures are made through matplotlib's object interface, so nothing here changes global state. Every figure is drawn
once for a light page and once for a dark one.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

DOTS_PER_INCH = 160
FONT = "DejaVu Sans"
"""Ships with matplotlib: figures look the same on every machine."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of one page background. `accent` and `second` are from Okabe and Ito's colour-blind-safe palette."""

    name: str
    paper: str
    ink: str
    muted: str
    rule: str
    accent: str
    second: str
    absent: str
    """Cells for which there is no value: never the colour of a low value."""


LIGHT = Theme("light", "#ffffff", "#1c2024", "#5b646d", "#d9dde1", "#d55e00", "#0072b2", "#e9ebed")
DARK = Theme("dark", "#16191d", "#e8eaed", "#a3abb3", "#383e45", "#ff8b3d", "#56b4e9", "#2b3036")
THEMES = (LIGHT, DARK)


def new_figure(width_in: float, height_in: float, *, theme: Theme) -> Figure:
    """An empty figure that no global state knows; constrained layout keeps labels inside."""
    return Figure(figsize=(width_in, height_in), dpi=DOTS_PER_INCH, layout="constrained", facecolor=theme.paper)


def to_png(figure: Figure) -> bytes:
    """The figure as PNG, without the library version that would make equal figures differ.

    The canvas writes the file itself: `savefig` draws everything twice.
    """
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def dress(axes: Axes, *, title: str, labels: tuple[str, str], theme: Theme) -> None:
    """Title, labels of the x and y axes, and quiet ticks and spines."""
    axes.set_facecolor(theme.paper)
    axes.set_title(drawable(title), loc="left", fontsize=9.5, color=theme.ink, family=FONT, pad=8, parse_math=False)
    for set_label, label in zip((axes.set_xlabel, axes.set_ylabel), labels, strict=True):
        set_label(drawable(label), fontsize=8.5, color=theme.muted, family=FONT, parse_math=False)
    quiet(axes, theme=theme)


def quiet(axes: Axes, *, theme: Theme) -> None:
    """Ticks and spines in the background's colours; no box around the data."""
    axes.tick_params(colors=theme.muted, labelsize=8, length=3, width=0.7, labelfontfamily=FONT)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.rule)
        spine.set_linewidth(0.8)


def drawable(text: str) -> str:
    """Text as the font can draw it: names come from users, and a missing glyph would be a warning and an empty box.

    The page itself shows the true name.
    """
    font = _font()
    return "".join(
        character if character == "\n" or (character.isprintable() and font.get_char_index(ord(character))) else "□"
        for character in text
    )


def shortened(text: str, num_characters: int) -> str:
    """At most so many characters, with an ellipsis where something was left out."""
    return text if len(text) <= num_characters else text[: num_characters - 1] + "…"


@cache
def _font() -> FT2Font:
    return font_manager.get_font(font_manager.findfont(FONT))
