"""Random kills of actors, nodes and drivers every few seconds until the time is over; then the rows must be golden.

`python -m tests.faults.soak --minutes 60`: run after run of the same samples, each on several real raylets, by the
light worker. Nothing waits by the clock: faults come as fast as commits do, a run may take as long as its drivers bring
commits, and it fails when ten in a row bring none. docs/reliability.md gets the figures.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rampipe.tables.storage import open_storage
from rampipe.tables.verify import row_set_hash
from rampipe.testbed.dataset import write_samples
from tests.cluster.light_worker import FAULT_FOLDER
from tests.cluster.oracle import Committed, check_same_rows, check_untouched, committed, golden_run
from tests.cluster.processes import ROOT
from tests.faults.disturb import Disturber
from tests.faults.document import write_section
from tests.faults.tally import Tally

SETTINGS = ("capture.unit_samples=4", "cluster.min_deadline_s=60")
MAX_BARREN_DRIVERS = 10
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "1000",
    # On a busy machine a process that is alive may be silent for long.
    "RAY_health_check_timeout_ms": "60000",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_worker_niceness": "0",  # else actors starve behind everything else, and never start
    "HF_HUB_OFFLINE": "1",
}


class Soak:
    """All runs share the samples and the golden run."""

    def __init__(self, folder: Path, *, num_samples: int, seed: int) -> None:
        (folder / "faults").mkdir()
        os.environ[FAULT_FOLDER] = str(folder / "faults")
        self.folder, self.samples, self.rng = folder, folder / "samples", random.Random(seed)
        write_samples(self.samples, split="select", count_per_domain=num_samples // 4, seed=1, grid=(2, 2))
        self.golden = golden_run(self.samples, folder / "golden", *SETTINGS)
        self.tally = Tally(samples=num_samples)

    def one_run(self) -> None:
        """From its first driver to its end. Raises AssertionError when rows differ or nothing moves any more."""
        out, before, num_barren = self.folder / f"out-{self.tally.runs}", Committed(), 0
        while True:
            code, said = self.one_driver(out)
            folder = next((path.parent for path in out.glob("*/run.json")), None)
            if folder is not None:
                check_untouched(str(folder), before)
            if code == 0 and folder is not None:
                check_same_rows(str(folder), self.golden, before)
                self.tally.runs += 1
                shutil.rmtree(out)
                return
            after = committed(folder) if folder is not None else Committed()
            num_barren = num_barren + 1 if len(after) == len(before) else 0
            assert num_barren < MAX_BARREN_DRIVERS, f"{num_barren} drivers in a row committed nothing: {said}"
            before = after

    def one_driver(self, out: Path) -> tuple[int, str]:
        """Its exit code and last words."""
        temporary = Path(tempfile.mkdtemp(prefix="so-", dir="/tmp"))  # short: names of sockets have 107 bytes at most
        log, nodes_file = temporary / "log", temporary / "nodes"
        flags = [flag for setting in SETTINGS for flag in ("--set", setting)]
        command = [sys.executable, "-m", "tests.faults.soak_driver", str(self.samples), str(out), str(nodes_file)]
        environment = {**os.environ, **ENVIRONMENT, "RAY_TMPDIR": str(temporary)}
        with log.open("wb") as stream:
            driver = subprocess.Popen([*command, *flags], cwd=ROOT, env=environment, stdout=stream, stderr=stream)
            self.tally.drivers += 1
            Disturber(driver, self.tally, out=out, nodes_file=nodes_file, rng=self.rng).until_it_ends()
        code, said = driver.wait(), log.read_text(encoding="utf-8", errors="replace")[-3000:]
        if code > 0:
            self.tally.kills["driver gave up"] += 1
            print(said, flush=True)
        shutil.rmtree(temporary, ignore_errors=True)
        return code, said


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--samples", type=int, default=4000, help="of one run")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        soak = Soak(Path(name), num_samples=arguments.samples, seed=arguments.seed)
        while soak.tally.runs == 0 or soak.tally.time_s < 60 * arguments.minutes:
            soak.one_run()
            print(
                f"{soak.tally.time_s / 60:.1f} min: {soak.tally.runs} runs, {dict(soak.tally.kills)}, "
                f"at most {soak.tally.longest_silence_s:.0f} s without a commit",
                flush=True,
            )
        lines = soak.tally.lines(row_set_hash(open_storage(soak.golden)))
    write_section(ROOT / "docs/reliability.md", "soak", lines)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
