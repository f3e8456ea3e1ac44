"""What timings and answers of heads that keep full attention come to: one table, and sentences about it."""

from __future__ import annotations

from rampipe.heads.speed.reduce import speed_table
from rampipe.heads.speed.sentences import speed_lines

__all__ = ["speed_lines", "speed_table"]
