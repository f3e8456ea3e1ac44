"""What the outcomes of arms say: accuracy with intervals, paired differences, and one sentence per claim."""

from __future__ import annotations

from rampipe.heads.verdict.judge import judge
from rampipe.heads.verdict.spread import spread_of_controls

__all__ = ["judge", "spread_of_controls"]
