"""A worker outside Ray that is stopped before it writes, and goes on when others have done its unit.

`python -m tests.cluster.zombie SAMPLES OUT`
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rampipe.tables.run import open_run_dir
from tests.cluster.conftest import make_config
from tests.cluster.light_worker import StopsBeforeItWrites

if __name__ == "__main__":
    config = make_config(Path(sys.argv[1]), Path(sys.argv[2]))
    (folder,) = (path for path in Path(config.out).iterdir() if (path / "run.json").exists())
    run = open_run_dir(str(folder))
    worker = StopsBeforeItWrites(config, run_uri=str(folder), fingerprint=run.fingerprint)
    record = worker.run_unit(run.units[2], attempt=1)
    print("committed by itself" if record["device"] == str(os.getpid()) else "committed by another")
