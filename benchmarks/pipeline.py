"""Wall time of a capture job on one actor, after start-up, against the pure forwards of the same batches.

python benchmarks/pipeline.py --shapes testbed half-billion

The job is a real one: Ray, reading, encoding, forwards, commits. Its time runs from the moment that the replica is
loaded to the last commit. The forwards are timed in an actor of the same kind, where nothing else happens: everything
is encoded before the clock starts. `half-billion` is a random Qwen2-VL checkpoint as wide as Qwen2's 0.5 B, with few
layers, and images of 400 visual tokens.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from rampipe.config import RunConfig, load_config
from rampipe.data import open_source
from rampipe.engine.cluster import run_units
from rampipe.engine.device import Device
from rampipe.engine.events import SkippedRow
from rampipe.engine.plan import make_spec
from rampipe.engine.progress import Progress
from rampipe.engine.worker import Worker
from rampipe.tables.run import create_run
from rampipe.tables.shards import write_shards
from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.dataset import write_samples
from rampipe.testbed.random_model import write_random_model
from rampipe.types import ContextPart, Evidence, Sample, StoredImage, Unit

SHAPES = ("testbed", "half-billion")
HIDDEN, LAYERS, SIDE_PX = 896, 4, 560


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--samples", type=int, help="default: 2,048 of the testbed, 24 of the other")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


class ForwardsAlone(Worker):
    """Encodes a whole unit, then times its forwards; commits nothing."""

    def __init__(self, config: RunConfig, *, run_uri: str, fingerprint: str) -> None:
        super().__init__(config, run_uri=run_uri, fingerprint=fingerprint)
        self._alone = Lock()

    def run_unit(self, unit: Unit, *, attempt: int, skip: Sequence[SkippedRow] = ()) -> dict[str, Any]:
        """Seconds of the forwards of a unit."""
        with self._alone:
            windows = list(self._windows(unit, range(unit.row_start, unit.row_stop), skip))
            with Device().turn(arrived_s=time.monotonic()) as turn:
                for window in windows:
                    self._measure_window(window, turn)
        return {"num_ok": unit.num_samples, "num_errors": 0, "forward_s": turn.forward_s, "seconds": turn.seconds}


class Clock(Progress):
    """When the replica was loaded, and when the last unit was there."""

    def __init__(self, units: Sequence[Unit]) -> None:
        num_samples = sum(unit.num_samples for unit in units)
        super().__init__(num_units=len(units), num_samples=num_samples, stream=open(os.devnull, "w"))  # noqa: PTH123, SIM115
        self.ready_s = self.last_s = 0.0
        self.forward_s = 0.0

    def add(self, **counts: Any) -> None:
        """One more unit."""
        super().add(**counts)
        self.last_s = time.monotonic()
        self.forward_s += counts["forward_s"]

    def beat(self, *, num_replicas: int | None = None) -> None:
        """The first unit is handed out right after the first beat with a replica."""
        super().beat(num_replicas=num_replicas)
        if num_replicas and not self.ready_s:
            self.ready_s = time.monotonic()


def write_noise(folder: Path, num_samples: int) -> None:
    """Samples with one large image each, a strip of which is evidence."""
    generator = np.random.default_rng(0)
    samples = list[Sample]()
    for number in range(num_samples):
        file = io.BytesIO()
        pixels = generator.integers(0, 256, size=(SIDE_PX // 8, SIDE_PX // 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX)).save(file, format="PNG")
        samples.append(
            Sample(
                sample_id=f"noise-{number:04d}",
                domain="noise",
                context=(ContextPart(kind="image", image=0),),
                images=(StoredImage(file.getvalue(), None),),
                question="find the red-disk",
                answers=("2 5",),
                choices=None,
                evidence=(Evidence(kind="box", image=0, box=(0, 0, SIDE_PX, 56), part=None, start=None, stop=None),),
            )
        )
    write_shards(samples, folder, split="select")


def prepare(shape: str, folder: Path, num_samples: int | None) -> list[str]:
    """Model and samples on disk; the settings that name them."""
    if shape == "testbed":
        write_samples(folder / "samples", split="select", count_per_domain=(num_samples or 2048) // 4, seed=5)
        return [f"model.path={weights_path()}", "capture.unit_samples=64"]
    write_noise(folder / "samples", num_samples or 24)
    write_random_model(folder / "model", tokenizer_folder=weights_path(), hidden=HIDDEN, num_layers=LAYERS)
    return [f"model.path={folder / 'model'}", "capture.unit_samples=4", "capture.batch_tokens=2048"]


def run(config: RunConfig, worker_class: Callable[..., Any], out: Path) -> Clock:
    """One job in a fresh folder."""
    planned = create_run(str(out), make_spec(config, open_source(config.data)))
    arguments = {"config": config, "run_uri": planned.storage.uri, "fingerprint": planned.fingerprint}
    clock = Clock(planned.units)
    run_units(config, planned.units, worker=lambda: (worker_class, arguments), progress=clock)
    return clock


def compare(shape: str, folder: Path, arguments: argparse.Namespace) -> None:
    """The job and the forwards in turns."""
    settings = [*prepare(shape, folder, arguments.samples), f"data.path={folder / 'samples'}"]
    settings += ["data.split=select", "model.dtype=float32", "cluster.gpus_per_replica=0", "cluster.replicas=1"]
    config = load_config(None, settings)
    ratios = list[float]()
    for repeat in range(arguments.repeats):
        alone = run(config, ForwardsAlone, folder / f"alone-{repeat}")
        job = run(config, Worker, folder / f"job-{repeat}")
        wall_s = job.last_s - job.ready_s
        ratios.append(wall_s / alone.forward_s)
        print(
            f"job {wall_s:.2f} s, forwards alone {alone.forward_s:.2f} s, in the job {job.forward_s:.2f} s, device "
            f"busy {job.device_busy_frac:.1%}",
            flush=True,
        )
    ratios.sort()
    median = statistics.median(ratios)
    print(f"{shape}: the job takes {median:.3f} x its forwards ({ratios[0]:.3f} to {ratios[-1]:.3f})")


def main() -> None:
    """Measure what the command line names."""
    arguments = parse()
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)  # of the actors, which import this file's classes
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=128 << 20)
    for shape in arguments.shapes:
        with tempfile.TemporaryDirectory() as folder:
            compare(shape, Path(folder), arguments)
    ray.shutdown()


if __name__ == "__main__":
    main()
