"""Random kills of actors and drivers every few seconds, until the time is over; then the rows must be the golden ones.

`python -m tests.faults.soak --minutes 60`: capture after capture of the same samples on a private Ray each, by the
light worker. Memory of drivers and actors is written down; docs/reliability.md gets the figures.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from rampipe.testbed.dataset import write_samples
from tests.cluster.light_worker import FAULT_FOLDER
from tests.cluster.oracle import Committed, check_same_rows, check_untouched, committed, golden_run
from tests.cluster.processes import ROOT, start_driver
from tests.faults.document import write_section

ACTOR = "ray::TakesItsTime"
SETTINGS = ("capture.unit_samples=4", "cluster.min_deadline_s=20")


@dataclass
class Tally:
    """What was done and seen. Memory in MiB, the largest of each kind by round."""

    runs: int = 0
    samples: int = 0
    actors_killed: int = 0
    actors_stopped: int = 0
    drivers_killed: int = 0
    driver_mib: list[float] = field(default_factory=list)
    actor_mib: list[float] = field(default_factory=list)

    def lines(self, minutes: float) -> list[str]:
        """For the page."""
        return [
            f"{minutes:.0f} minutes on {time.strftime('%Y-%m-%d')}: {self.runs} runs of {self.samples} samples each in "
            f"turn, {self.actors_killed} actors killed, {self.actors_stopped} stopped, {self.drivers_killed} drivers "
            "killed.",
            "Every run ended with the golden rows, and no file that was committed before a driver died was touched.",
            f"Largest memory of a driver by run: {in_words(self.driver_mib)}; of an actor: {in_words(self.actor_mib)}.",
        ]


def in_words(values: Sequence[float]) -> str:
    return "not seen" if not values else f"first {values[0]:.0f} MiB, last {values[-1]:.0f}, most {max(values):.0f}"


def disturb(driver: subprocess.Popen[str], rng: random.Random, tally: Tally) -> None:
    """Until the driver ends, by itself or by us: every second or so something happens to one process."""
    driver_mib = actor_mib = 0.0
    while driver.poll() is None:
        time.sleep(rng.uniform(0.3, 2.0))
        try:
            process = psutil.Process(driver.pid)
            driver_mib = max(driver_mib, process.memory_info().rss / 2**20)
            actors = [
                child
                for child in process.children(recursive=True)
                if child.cmdline()[:1] and child.cmdline()[0].startswith(ACTOR)
            ]
            actor_mib = max([actor_mib, *(actor.memory_info().rss / 2**20 for actor in actors)])
            draw = rng.random()
            if draw < 0.05:
                driver.kill()
                tally.drivers_killed += 1
            elif actors and draw < 0.6:
                rng.choice(actors).kill()
                tally.actors_killed += 1
            elif actors and draw < 0.7:
                rng.choice(actors).suspend()
                tally.actors_stopped += 1
        except psutil.NoSuchProcess:
            continue
    driver.communicate()
    tally.driver_mib += [driver_mib] if driver_mib else []
    tally.actor_mib += [actor_mib] if actor_mib else []


def soak_once(samples: Path, out: Path, golden: str, rng: random.Random, tally: Tally) -> None:
    """One run from its first driver to its end."""
    before: Committed = {}
    while True:
        flags = [flag for setting in SETTINGS for flag in ("--set", setting)]
        driver = start_driver(samples, out, "--worker", "TakesItsTime", *flags)
        disturb(driver, rng, tally)
        folder = next((path.parent for path in out.glob("*/run.json")), None)
        if folder is not None:
            check_untouched(str(folder), before)
        if driver.returncode == 0 and folder is not None:
            check_same_rows(str(folder), golden, before)
            return
        before = dict(committed(folder)) if folder is not None else {}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--samples", type=int, default=200, help="of one run")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    rng, tally = random.Random(arguments.seed), Tally(samples=arguments.samples)
    ends_s = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        (folder / "faults").mkdir()
        os.environ[FAULT_FOLDER] = str(folder / "faults")
        write_samples(folder / "samples", split="select", count_per_domain=arguments.samples // 4, seed=1, grid=(2, 2))
        golden = golden_run(folder / "samples", folder / "golden", *SETTINGS)
        while tally.runs == 0 or time.monotonic() < ends_s:
            soak_once(folder / "samples", folder / f"out-{tally.runs}", golden, rng, tally)
            tally.runs += 1
            print(tally, flush=True)
    lines = tally.lines(arguments.minutes)
    write_section(ROOT / "docs/reliability.md", "soak", lines)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
