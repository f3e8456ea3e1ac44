"""Trains the deep testbed's model, on one CPU thread, stage by stage.

python -m rampipe.testbed.deep.train --out runs/deep                # all stages; again: goes on where it stopped
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.deep.architecture import build_deep_model
from rampipe.testbed.deep.stages import Stage, run_stage

STAGES = (
    Stage(name="hop", num_steps=100, levels=(0, 4), rates=(1.0, 0.73), seed=0, hop_only=True),
    Stage(name="grow", num_steps=800, levels=(0, 6), rates=(0.5, 0.15), seed=1),
)


def train_deep(folder: Path, *, stages: tuple[Stage, ...] = STAGES, report: Callable[[str], None] = print) -> None:
    """Trains from the small testbed's weights. The folder keeps a checkpoint of every stage."""
    folder.mkdir(parents=True, exist_ok=True)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = build_deep_model(weights_path(), seed=0)
        for stage in stages:
            run_stage(model, stage, folder, report=report)
    finally:
        torch.set_num_threads(num_threads)


def main() -> None:
    """Parses the command line, trains, prints progress with seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the stages' checkpoints")
    options = parser.parse_args()
    started_s = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - started_s:6.0f} s  {line}", flush=True)

    train_deep(options.out, report=report)


if __name__ == "__main__":
    main()
