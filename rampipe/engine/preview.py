"""What `--plan` says: how much is left of a stage, from its files alone, or what an experiment would come to."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rampipe.config import RunConfig
from rampipe.engine.plan import estimate, row_bytes
from rampipe.engine.rates import Rates
from rampipe.tables.commit import read_commits
from rampipe.tables.run import RunSpec
from rampipe.tables.storage import open_storage


def describe_stage(config: RunConfig, run_uri: str, spec: RunSpec, *, folder: str, work: str) -> str:
    """Units left and the time they take, by those that are committed; starts and writes nothing.

    folder: of the stage below the run, e.g. `ablation`. work: what one of its runs is, e.g. "24 arms x 256 samples".
    """
    storage = open_storage(run_uri).child(folder).child(spec.fingerprint[:12])
    commits = read_commits(storage)
    num_replicas = config.cluster.replicas if isinstance(config.cluster.replicas, int) else 1
    left = estimate(spec, commits, num_replicas=num_replicas)
    time = "unknown until the first unit is done"
    if not left.num_units:
        time = "none, it is done"
    elif left.seconds is not None:
        time = f"about {left.seconds / 60:.1f} min on {num_replicas} replicas, by the units that are done"
    return "\n".join(
        [
            f"{folder}: {storage.uri}",
            f"  work:  {work}",
            f"  units: {left.num_units} of {len(spec.units)} left",
            f"  time:  {time}",
        ]
    )


@dataclass(frozen=True, slots=True)
class Forecast:
    """Work of an experiment whose data need not be here.

    num_tokens: read in all. num_rows: of head_stats. num_bytes: of these rows before compression.
    """

    num_units: int
    num_samples: int
    num_tokens: int
    num_rows: int
    num_bytes: int

    def hours(self, rates: Rates, *, device: str, model: str, nominal_parameters: float) -> str:
        """GPU-hours on a device as text: measured, a lower bound that says so, or that they are not known."""
        rate, peak = rates.find(device, model), rates.peak(device)
        if rate is not None:
            hours = self.num_tokens / rate.tokens_per_s / 3600
            return f"{hours:,.1f} h on {device}, by {rate.tokens_per_s:,.0f} tokens/s measured {rate.date}"
        if peak is not None:
            hours = 2.0 * nominal_parameters * self.num_tokens / peak.flop_per_s / 3600
            return f"not measured on {device}; above {hours:,.1f} h, what its stated peak needs for the weights alone"
        return f"not measured on {device}: run benchmarks/rates.py there"


def forecast(config: RunConfig, *, num_samples: int, num_tokens: int, num_heads: int, num_reads: int) -> Forecast:
    """What an experiment comes to.

    num_tokens: of one prompt. num_heads: that get rows, 0 where none are written. num_reads: of each prompt.
    """
    limited = min(num_samples, config.data.limit or num_samples)
    num_rows = limited * len(config.capture.queries) * num_heads
    num_units = math.ceil(limited / config.capture.unit_samples)
    return Forecast(num_units, limited, limited * num_tokens * num_reads, num_rows, num_rows * row_bytes())
