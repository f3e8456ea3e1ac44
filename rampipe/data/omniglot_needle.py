"""Omniglot needle: real handwriting, a query character and a sheet of 16, 36 or 64 in which it occurs once.

Source: sheets composed from github.com/brendenlake/omniglot (Lake et al. 2015). Licence: MIT. Size: 5,840 glyphs of
105 x 105 px in the two small background sets; a slice holds 200 sheets of 56 px cells.
Evidence: the cell of the sheet with the same character by another writer, exact. The answer is `row,column`.
Score: `exact_match`; a neighbouring cell is as wrong as any other.
"""

from __future__ import annotations

from typing import ClassVar

from rampipe.data.jsonl import JsonlSource
from rampipe.data.listed import Line


class OmniglotNeedleSource(JsonlSource):
    """Two images a sample, the query and the sheet; domain `handwriting`."""

    name: ClassVar[str] = "omniglot_needle"
    SCORE: ClassVar[str] = "exact_match"
    where: ClassVar[str] = (
        "Glyphs come from github.com/brendenlake/omniglot (python/images_background_small1.zip and small2.zip), "
        "composed into samples.jsonl beside images/."
    )

    def domain(self, line: Line) -> str:
        """Always `handwriting`."""
        del line
        return "handwriting"
