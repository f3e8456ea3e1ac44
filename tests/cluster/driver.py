"""A driver in a process of its own: `python -m tests.cluster.driver SAMPLES OUT [--worker NAME] [--set KEY=VALUE ...]`.

Exit codes as those of the jobs. RAY_ADDRESS joins a cluster; without it, the driver has one of its own.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rampipe.engine.capture import run_capture
from rampipe.errors import RampipeError
from tests.cluster import light_worker
from tests.cluster.conftest import make_config


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--worker", default="LightWorker")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args(argv)
    os.environ["RAMPIPE_TEST_DRIVER"] = str(os.getpid())
    try:
        run_capture(
            make_config(arguments.samples, arguments.out, *arguments.overrides),
            worker_class=getattr(light_worker, arguments.worker),
        )
    except RampipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
