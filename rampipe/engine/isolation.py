"""Find the rows of a unit that end the workers, by bisection, without committing anything.

A range of several rows that fails once is halved; a single row is condemned when it failed `max_strikes` times on its
own, because a worker may also die for reasons of its own (a preempted node). The number of condemned rows is bounded:
when more rows than that fail, the cause is not a sample.
"""

from __future__ import annotations

from rampipe.engine.events import FailureKind, SkippedRow

MAX_CONDEMNED = 8
"""More killers than this in one unit look like a broken machine or model, not like bad samples."""


class Isolation:
    """The search in one unit. `known` rows were condemned earlier and are skipped."""

    def __init__(self, rows: range, *, max_strikes: int, known: tuple[SkippedRow, ...] = ()) -> None:
        self._max_strikes = max_strikes
        self._strikes: dict[range, int] = {}
        self._condemned = {skipped.row: skipped for skipped in known}
        self._open: set[range] = set(_halves(rows))

    @property
    def open_ranges(self) -> list[range]:
        """Ranges of rows that are still to be probed, in row order."""
        return sorted(self._open, key=lambda rows: rows.start)

    @property
    def condemned(self) -> tuple[SkippedRow, ...]:
        """The killers, in row order."""
        return tuple(self._condemned[row] for row in sorted(self._condemned))

    @property
    def finished(self) -> bool:
        """Nothing is left to probe."""
        return not self._open

    @property
    def hopeless(self) -> bool:
        """More rows are condemned than one unit may lose."""
        return len(self._condemned) > MAX_CONDEMNED

    def survived(self, rows: range) -> None:
        """Every row of this range is innocent."""
        self._open.discard(rows)

    def failed(self, rows: range, *, kind: FailureKind, cause: str) -> list[range]:
        """A probe ended its worker. Returns the ranges to probe next."""
        if rows not in self._open:
            return []
        if len(rows) > 1:
            self._open.discard(rows)
            halves = _halves(rows)
            self._open.update(halves)
            return halves
        self._strikes[rows] = self._strikes.get(rows, 0) + 1
        if self._strikes[rows] < self._max_strikes:
            return [rows]
        self._open.discard(rows)
        self._condemned[rows.start] = SkippedRow(rows.start, kind, cause)
        return []


def _halves(rows: range) -> list[range]:
    if len(rows) <= 1:
        return [rows] if rows else []
    middle = rows.start + len(rows) // 2
    return [range(rows.start, middle), range(middle, rows.stop)]
