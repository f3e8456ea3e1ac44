"""Watches a capture: says when enough units are committed for the top set of heads to be certain.

Units are taken in one random order, whatever order they finish in: slow units are often those with long contexts, and
taking the fast ones first would look at other samples than the rest are. So a capture ends after the same units for any
number of replicas. Statistics: `rampipe.heads.certain`; what is assumed: docs/stopping.md.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from jaxtyping import Float64

from rampipe.config import RankConfig, StopConfig
from rampipe.errors import ConfigError, DataError
from rampipe.heads.certain import ConfidenceSequence, Membership, certain_members
from rampipe.heads.classes import num_core
from rampipe.heads.metrics import metric_by_id
from rampipe.heads.reduce import find_wanted, sum_parts
from rampipe.heads.sums import PartialSums
from rampipe.tables.columns import CommittedTable
from rampipe.tables.order import random_order
from rampipe.tables.parquet import parse
from rampipe.tables.record import CommitRecord, commit_path, read_commit
from rampipe.tables.run import Run
from rampipe.tables.schema import load_schema
from rampipe.tables.stopped import Stopped
from rampipe.types import HeadId

BOUNDS: dict[str, tuple[float, float]] = {
    "ram": (0.0, 1.0),
    "ram_last": (0.0, 1.0),
    "ram_answer": (0.0, 1.0),
    "ram_calibrated": (-1.0, 1.0),
    "density": (0.0, 1.0),
    "excess": (-1.0, 1.0),
    "hit": (0.0, 1.0),
}
"""Metrics with bounds that are known before any value is, and that are undefined for all heads of a sample or none."""


class StabilityWatch:
    """`add_unit` for every committed unit, in any order, until `is_certain`.

    order: ids of the planned units as they count: shuffled by the seed, and to be worked on in this order.
    Raises ConfigError for a metric without bounds.
    """

    def __init__(self, run: Run, rank: RankConfig, stop: StopConfig) -> None:
        self._level = checked_level(rank, stop)
        self._run, self._rank, self._stop = run, rank, stop
        self._units = {unit.unit_id: unit for unit in run.units}
        self.order = random_order(self._units, seed=stop.seed)
        self.num_taken = 0
        """Units that were looked at: the first so many of `order`."""
        self.membership: Membership | None = None
        self._committed = set[int]()
        self._heads: tuple[HeadId, ...] = ()
        num_items = len(self.order) if stop.item == "unit" else None
        self._sequence = ConfidenceSequence(run.num_heads, level=self._level, num_items=num_items)

    @property
    def is_certain(self) -> bool:
        """Whether the units looked at are enough."""
        return self.membership is not None and self.membership.is_certain(self._stop.tolerance_frac)

    def add_unit(self, unit_id: int) -> None:
        """A unit is committed: look at it, and at what waited for it."""
        self._committed.add(unit_id)
        while not self.is_certain and self.num_taken < len(self.order):
            next_id = self.order[self.num_taken]
            if next_id not in self._committed:
                return
            self._take(next_id)
            self.num_taken += 1

    def stopped(self) -> Stopped | None:
        """What to stop the run with; None while it is not certain, or when no unit would be saved."""
        if self.membership is None or not self.is_certain or self.num_taken == len(self.order):
            return None
        unit_ids = self.order[: self.num_taken]
        chosen = np.flatnonzero(self.membership.chosen).tolist()
        return Stopped(
            fingerprint=self._run.fingerprint,
            unit_ids=unit_ids,
            num_samples=sum(self._units[unit_id].num_samples for unit_id in unit_ids),
            num_planned=self._run.num_samples,
            metric=self._rank.metric,
            k_frac=self._rank.k_frac,
            level=self._level,
            tolerance_frac=self._stop.tolerance_frac,
            item=self._stop.item,
            num_items=self._sequence.num_seen,
            heads=tuple(str(self._heads[head]) for head in chosen),
        )

    def _take(self, unit_id: int) -> None:
        record = read_commit(self._run.storage, commit_path(self._units[unit_id]))
        for item in self._items(self._sums(record) if record.num_ok else None):
            self._sequence.add(item)
        if self._sequence.num_seen:
            size = num_core(self._rank.k_frac, self._run.num_heads)
            self.membership = certain_members(self._sequence.low, self._sequence.high, self._sequence.means, size=size)

    def _sums(self, record: CommitRecord) -> PartialSums:
        """By context. Raises DataError when a value exists for some heads of a sample only."""
        path, storage = record.path_of("samples"), self._run.storage
        samples = pl.DataFrame(parse(storage.read(path), load_schema(self._run.schemas["samples"]), source=path))
        rows = CommittedTable(storage, record.path_of("head_stats"), load_schema(self._run.schemas["head_stats"]))
        sums = sum_parts([rows], find_wanted([rows], samples.lazy(), metric_by_id(self._rank.metric), elsewhere=False))
        self._heads = self._heads or sums.wanted.heads
        if sums.partly is not None or self._heads != sums.wanted.heads or len(self._heads) != self._run.num_heads:
            raise DataError(f"{rows.name}: not all heads have a value of {self._rank.metric!r} for the same samples.")
        return sums

    def _items(self, sums: PartialSums | None) -> Float64[np.ndarray, "item head"]:
        """Independent values in [0, 1]: a mean for each context; or one for the unit, a sum over the most samples that
        a unit has, so that over all units it orders heads as their mean over samples does.
        """
        if sums is None:  # every sample failed
            return np.zeros((int(self._stop.item == "unit"), self._run.num_heads))
        low, high = BOUNDS[self._rank.metric]
        if self._stop.item == "unit":
            total, count = sums.sums.sum(axis=0, keepdims=True), sums.whole.sum(keepdims=True)[:, None]
            most = max(unit.num_samples for unit in self._units.values())
            return np.clip((total - low * count) / ((high - low) * most), 0.0, 1.0)
        keys = np.array(sums.wanted.clusters.key)
        starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
        total, count = np.add.reduceat(sums.sums, starts), np.add.reduceat(sums.whole, starts)[:, None]
        measured = count[:, 0] > 0
        return np.clip((total[measured] / count[measured] - low) / (high - low), 0.0, 1.0)


def checked_level(rank: RankConfig, stop: StopConfig) -> float:
    """The level, when this metric can be stopped at. Raises ConfigError naming the key to change."""
    if stop.level is None:
        raise ConfigError("stop.level is not set. Pass --until-stable 0.95, or another probability.")
    if rank.metric not in BOUNDS:
        raise ConfigError(
            f"stop.level with rank.metric = {rank.metric!r}: stopping needs a metric that is bounded and defined for "
            f"all heads of a sample: {list(BOUNDS)}. Choose one of these, or leave stop.level out."
        )
    if stop.tolerance_frac and BOUNDS[rank.metric][0] < 0:
        raise ConfigError(
            f"stop.tolerance_frac = {stop.tolerance_frac:g} is a share of the metric, and {rank.metric!r} may be "
            "negative. Use 0, or another metric."
        )
    return stop.level
