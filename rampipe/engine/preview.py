"""What `--plan` says about a stage that tries arms: how much is left of it, from its files alone."""

from __future__ import annotations

from rampipe.config import RunConfig
from rampipe.engine.plan import estimate
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
