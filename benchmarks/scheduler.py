"""How many units a second the driver hands out, and what a unit costs it, with 2, 8 and 16 actors that do nothing.

python benchmarks/scheduler.py

Real Ray actors of a private cluster on loopback, the real driver loop; a unit is one call that returns a commit record.
The cost is processor time of the driver's process, which other work on the machine changes little; the rate is wall
time, which it does.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from dataclasses import dataclass
from typing import Any

from rampipe.config import RunConfig, load_config
from rampipe.engine.cluster import run_units
from rampipe.engine.progress import Progress
from rampipe.types import Unit

RECORD = {"num_ok": 4, "num_errors": 0, "seconds": 0.001, "forward_s": 0.001, "wait_s": 0.0}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=2000)
    parser.add_argument("--actors", type=int, nargs="+", default=[2, 8, 16])
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


class Trivial:
    """An actor whose units are done at once."""

    def run_unit(self, unit: Unit, *, attempt: int, skip: object = ()) -> dict[str, Any]:
        """The record of a unit that gave nothing."""
        return {**RECORD, "unit_id": unit.unit_id, "attempt": attempt}


@dataclass
class Clock(Progress):
    """Wall and processor seconds from the first committed unit to the last one: without the start of the actors."""

    def __init__(self, num_units: int) -> None:
        super().__init__(num_units=num_units, num_samples=4 * num_units, stream=open(os.devnull, "w"))  # noqa: PTH123, SIM115
        self.times: list[tuple[float, float]] = []

    def add(self, **counts: Any) -> None:
        """One more unit is committed."""
        super().add(**counts)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self.times.append((time.perf_counter(), usage.ru_utime + usage.ru_stime))


def dispatch(config: RunConfig, num_units: int) -> tuple[float, float]:
    """Units a second, and the driver's processor seconds for a unit."""
    clock = Clock(num_units)
    units = [Unit(number, "shard", 4 * number, 4 * number + 4) for number in range(num_units)]
    run_units(config, units, worker=lambda: (Trivial, {}), progress=clock)
    # Up to the first quarter actors are still coming up.
    quarter = len(clock.times) // 4
    (start_s, start_cpu_s), (end_s, end_cpu_s) = clock.times[quarter], clock.times[-1]
    done = len(clock.times) - 1 - quarter
    return done / (end_s - start_s), (end_cpu_s - start_cpu_s) / done


def main() -> None:
    """Measure what the command line names, in turns."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    arguments = parse()
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=128 << 20)
    rates: dict[int, list[float]] = {actors: [] for actors in arguments.actors}
    costs: dict[int, list[float]] = {actors: [] for actors in arguments.actors}
    for _ in range(arguments.repeats):
        for actors in arguments.actors:
            settings = [f"cluster.replicas={actors}", "cluster.gpus_per_replica=0", "cluster.cpus_per_replica=0.01"]
            config = load_config(None, ["model.path=none", "data.path=none", *settings])
            rate, cost = dispatch(config, arguments.units)
            rates[actors].append(rate)
            costs[actors].append(cost)
    for actors in arguments.actors:
        print(
            f"{actors:3} actors: {statistics.median(rates[actors]):6.0f} units/s "
            f"({min(rates[actors]):.0f} to {max(rates[actors]):.0f}), driver "
            f"{statistics.median(costs[actors]) * 1e3:.3f} ms of processor time a unit"
        )
    first, last = arguments.actors[0], arguments.actors[-1]
    ratios = sorted(b / a for a, b in zip(costs[first], costs[last], strict=True))
    print(
        f"a unit costs the driver {statistics.median(ratios):.2f} x ({ratios[0]:.2f} to {ratios[-1]:.2f}) with {last} "
        f"actors as with {first}"
    )
    ray.shutdown()


if __name__ == "__main__":
    main()
