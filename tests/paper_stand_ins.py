"""A folder in which `jobs/configs/paper` runs as it is: small random models and a few rows of each dataset, by the
paths that the files name. `python -m tests.paper_stand_ins FOLDER`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from jobs.experiments import Experiment, load_experiments, read_shapes, shape_of
from rampipe.config import DataConfig
from rampipe.data import open_source
from rampipe.data.haystack_packed import write_packed
from rampipe.models.families import find_family
from rampipe.testbed.dataset import write_samples
from tests.families.builder import Builder
from tests.families.builders import BUILDERS
from tests.unit.data.layouts import LAYOUTS

ROOT = Path(__file__).resolve().parents[1]
PAPER = ROOT / "jobs" / "configs" / "paper"
STAND_INS = {"qwen3_vl": "Qwen3-VL", "llava_onevision": "LLaVA-OneVision", "internvl": "InternVL 3.5"}
"""Builder by the type of model that the paper's files name."""

SMALL = (
    *("model.dtype=float32", "cluster.gpus_per_replica=0", "evidence.min_overlap=0", "capture.predict_tokens=2"),
    *("rank.bootstrap_samples=20", "report.examples=1"),
    *("ablate.fracs=[0.0, 0.05]", "ablate.strategies=['top', 'random']", "ablate.seeds=1"),
    *("ablate.bootstrap_samples=20", "speed.full_fracs=[0.5]", "speed.strategies=['top']", "speed.per=['query_head']"),
    *("speed.context_tokens=[384]", "speed.dense_below_tokens=0", "speed.sink_tokens=4", "speed.window_tokens=8"),
    *("speed.new_tokens=2", "speed.repeats=1", "speed.warmups=0"),
)
"""What a CPU and models of two layers need changed: no device, and less of everything."""


def write_stand_ins(folder: Path, experiments: Iterable[Experiment]) -> None:
    """Models and data of the experiments, each once, at their relative paths below `folder`."""
    for one in experiments:
        ranked = one.ranked_on or one.config
        model = folder / one.config.model.path
        if not model.exists():
            model.mkdir(parents=True)
            _builder(one).write(model)
        for data in (one.config.data, ranked.data):
            if not (folder / data.path).exists():
                _write_data(folder, data)


def _builder(one: Experiment) -> Builder:
    model_type = shape_of(one, read_shapes(one.file.parent)).model_type
    name = STAND_INS[model_type]
    found = next(builder for builder in BUILDERS if builder.name == name)
    assert find_family(found.model_type) is find_family(model_type)
    return found


def _write_data(folder: Path, data: DataConfig) -> None:
    """Rows in the dataset's own layout; needles as `rampipe data haystack --packed` makes them, few and short."""
    if data.source != "samples":
        LAYOUTS[data.source](folder / data.path)
        if data.source == "mmlongbench":
            _write_lengths(folder / data.path)
        return
    write_samples(folder / "single", split="select", count_per_domain=1, seed=0)
    distractors = {"8k": 1, "16k": 2}.get(Path(data.path).name, 3)
    source = open_source(DataConfig(path=str(folder / "single")))
    write_packed(source, folder / data.path, size=distractors, seed=0)


def _write_lengths(folder: Path) -> None:
    """The one file of lines as a file of each length; what is said of a prompt's length is not true here."""
    (written,) = (folder / "mmlb_data/NIAH").iterdir()
    for length in (8, 16, 64, 128):
        shutil.copyfile(written, written.with_name(written.name.replace("K32", f"K{length}")))


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.paper_stand_ins", description=__doc__)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args(argv)
    write_stand_ins(arguments.folder, load_experiments(PAPER))
    flags = " ".join(f'--set "{change}"' for change in SMALL)
    print(f"cd {arguments.folder} && python -m jobs.pipeline --config {PAPER} {flags}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
