"""How many samples the top set of a run needs to be certain, by drawing from the run's own samples with replacement.

python benchmarks/stopping.py runs/demo/<run_id>

For each tolerance and several random orders: samples until certain, and whether the set then was right, judged by the
run's own means, which are the truth of what is drawn.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
import polars as pl
from jaxtyping import Float64

from rampipe.heads.certain import ConfidenceSequence, certain_members
from rampipe.heads.classes import num_core
from rampipe.heads.metrics import metric_by_id
from rampipe.tables.read import open_run


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--level", type=float, default=0.95)
    parser.add_argument("--k-frac", type=float, default=0.05)
    parser.add_argument("--tolerances", type=float, nargs="+", default=[0.0, 0.05, 0.1, 0.25])
    parser.add_argument("--orders", type=int, default=5)
    parser.add_argument("--most", type=int, default=50_000, help="samples after which an order is given up")
    return parser.parse_args()


def read_values(uri: str) -> Float64[np.ndarray, "sample head"]:
    """`ram` of every sample that has evidence."""
    metric, keys = metric_by_id("ram"), ["sample_id", "layer", "head"]
    rows = open_run(uri).head_stats.filter(pl.col("query") == metric.QUERY)
    values = rows.select(*keys, metric.expression().alias("value")).drop_nulls().collect().sort(keys)
    return values.get_column("value").to_numpy().reshape(values.get_column("sample_id").n_unique(), -1)


def draw(
    values: Float64[np.ndarray, "sample head"], order: int, tolerance_frac: float, arguments: argparse.Namespace
) -> tuple[int, bool]:
    """Samples until certain, or `most`; and whether no head left out is more than the tolerance above a chosen one."""
    rng, size = np.random.default_rng(order), num_core(arguments.k_frac, values.shape[1])
    sequence, truth = ConfidenceSequence(values.shape[1], level=arguments.level), values.mean(axis=0)
    while True:
        for item in values[rng.integers(0, len(values), 64)]:
            sequence.add(item)
        found = certain_members(sequence.low, sequence.high, sequence.means, size=size)
        if found.is_certain(tolerance_frac) or sequence.num_seen >= arguments.most:
            right = truth[~found.chosen].max() <= (1 + tolerance_frac) * truth[found.chosen].min()
            return sequence.num_seen, bool(right)


def main() -> None:
    """Print a line a tolerance."""
    arguments = parse()
    values = read_values(arguments.run)
    print(f"{len(values)} samples, {values.shape[1]} heads, level {arguments.level}, top {arguments.k_frac:.1%} by ram")
    for tolerance_frac in arguments.tolerances:
        drawn = [draw(values, order, tolerance_frac, arguments) for order in range(arguments.orders)]
        counts = [count for count, _ in drawn]
        print(
            f"within {tolerance_frac:.0%}: {statistics.median(counts):.0f} samples ({min(counts)} to {max(counts)}), "
            f"right in {sum(right for _, right in drawn)} of {len(drawn)}"
        )


if __name__ == "__main__":
    main()
