"""The four needle domains: which words name a cell, and which (key, value) pairs training may show.

A cell shows one of 64 keys, made of two attributes of eight values each, and one value of two digits.
"""

from __future__ import annotations

from dataclasses import dataclass

NUM_ATTRIBUTE_VALUES = 8
NUM_KEYS = NUM_ATTRIBUTE_VALUES**2

COLOURS = ("red", "green", "blue", "yellow", "cyan", "magenta", "orange", "black")
SHAPES = ("disk", "ring", "square", "triangle", "star", "cross", "diamond", "bar")


@dataclass(frozen=True, slots=True)
class Domain:
    """One kind of haystack.

    first, second: the values of the two key attributes. num_digits: digits 0 to num_digits - 1 are values.
    separator: what joins the two attribute names to one word. Key words of different domains never coincide.
    held_out_modulus: one in this many (key, value) pairs is never rendered in training.
    """

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    num_digits: int
    separator: str
    held_out_modulus: int

    @property
    def key_words(self) -> tuple[str, ...]:
        """The 64 key words, the second attribute running fastest."""
        return tuple(f"{a}{self.separator}{b}" for a in self.first for b in self.second)


DOMAINS: tuple[Domain, ...] = (
    Domain("glyph", COLOURS, SHAPES, 10, "-", 10),
    Domain("receipt", tuple("ACEHKMRT"), tuple("BDFNPSXZ"), 10, "", 10),
    Domain("chart", COLOURS, tuple("FGJLQUVY"), 8, "-", 8),
    Domain("table", tuple("ACEHKMRT"), SHAPES, 10, "-", 10),
)
DOMAIN_NAMES: tuple[str, ...] = tuple(domain.name for domain in DOMAINS)

QUESTION_TEMPLATES = (
    "what is next to the {key}",
    "which digits belong to the {key}",
    "please read the entry of {key}",
)
"""The key is the last word, and every template has the same number of words: training packs them as one block."""

SPLITS = ("train", "select", "eval")
"""`train` never shows a held-out pair; `select` and `eval` ask only for held-out pairs, from disjoint seeds."""


def is_held_out(domain: Domain, key: int, digits: tuple[int, int]) -> bool:
    """Whether training never shows this pair: (a + 3b + d1 + 2 d2) mod m = 0, a and b the attribute values."""
    first, second = divmod(key, NUM_ATTRIBUTE_VALUES)
    return (first + 3 * second + digits[0] + 2 * digits[1]) % domain.held_out_modulus == 0
