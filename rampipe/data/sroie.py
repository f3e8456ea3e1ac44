"""SROIE: scanned receipts with one question for each of company, date, address and total.

Source: ICDAR 2019 robust reading challenge (Huang et al.), the corrected copy github.com/zzzDavid/ICDAR-2019-SROIE.
Licence: that repository says MIT; mirrors say cc-by-4.0; receipts can show cashiers' names. Size: 626 receipts with
keys in the original; a slice holds four questions a receipt.
Evidence: the boxes of the OCR lines whose text matches the answer. `date` and `total` keep every line that shows the
value, so attention mass on them is an upper bound: fields are domains of their own.
Score: `exact_match`. Task 3 of the challenge counts a field as right when its whole text is (arXiv 2103.10213); ANLS
would accept a wrong date or total.
"""

from __future__ import annotations

from typing import ClassVar

from rampipe.data.jsonl import JsonlSource
from rampipe.data.listed import Line


class SroieSource(JsonlSource):
    """One receipt a sample, domain `receipt_<field>`."""

    name: ClassVar[str] = "sroie"
    SCORE: ClassVar[str] = "exact_match"
    where: ClassVar[str] = (
        "SROIE receipts come from github.com/zzzDavid/ICDAR-2019-SROIE, linked to questions in samples.jsonl beside "
        "images/."
    )
    keys: ClassVar[tuple[str, ...]] = ("field",)

    def domain(self, line: Line) -> str:
        """`receipt_company`, `receipt_date`, `receipt_address` or `receipt_total`."""
        return f"receipt_{line['field']}"
