"""What the jobs share that can be handed to a cluster: their flags, and handing them over."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rampipe.config import RunConfig
from rampipe.engine.job import make_job
from rampipe.engine.submit import submit
from rampipe.errors import ConfigError


def add_submit_flags(made: argparse.ArgumentParser) -> None:
    """Flags of the jobs that a cluster can run."""
    made.add_argument(
        "--submit", action="store_true", help="hand the job to a running cluster and return; twice is once"
    )
    made.add_argument("--address", metavar="URL", help="with --submit: dashboard of the cluster, http://127.0.0.1:8265")


def is_submitted(arguments: argparse.Namespace, config: RunConfig, *, stage: str, runs: Sequence[str] = ()) -> bool:
    """Submit when the command line says so. False: the caller is to do the work here.

    Raises ConfigError for flags that do not go together or paths that a node cannot follow, ClusterError when the
    cluster cannot be used.
    """
    if not arguments.submit:
        if arguments.address is not None:
            raise ConfigError(f"--address {arguments.address}: only --submit uses it. Add --submit or leave it out.")
        return False
    if arguments.plan:
        raise ConfigError("--plan is answered here and starts nothing: leave out --plan or --submit.")
    submit(make_job(stage, config, runs=runs, folder=Path.cwd()), address=arguments.address)
    return True
