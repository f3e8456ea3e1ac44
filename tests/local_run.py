"""A finished run without Ray: the worker itself, unit by unit, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rampipe.config import RunConfig, load_config
from rampipe.data import open_source
from rampipe.engine.plan import make_spec
from rampipe.engine.worker import Worker
from rampipe.tables.finish import finish_run
from rampipe.tables.run import create_run


def make_config(*, model: Path, data: Path, out: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """A small CPU configuration."""
    least = [f"model.path={model}", f"data.path={data}", f"out={out}", "model.dtype=float32"]
    return load_config(None, [*least, "cluster.gpus_per_replica=0", *overrides])


def finished_run(config: RunConfig) -> str:
    """Capture everything and finish. Returns the run's folder."""
    run = create_run(config.out, make_spec(config, open_source(config.data)))
    worker = Worker(config, run_uri=run.storage.uri, fingerprint=run.fingerprint)
    for unit in run.units:
        worker.run_unit(unit, attempt=1)
    finish_run(run)
    return run.storage.uri
