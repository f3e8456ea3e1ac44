"""Trains the deep testbed's model, stage by stage, on the CPU.

python -m rampipe.testbed.deep.train --out runs/deep                # all stages; again: goes on where it stopped
python -m rampipe.testbed.deep.train --out runs/deep --threads 2    # faster; rounds differently than one thread
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.deep.architecture import build_deep_model
from rampipe.testbed.deep.checkpoint import save_deep_checkpoint
from rampipe.testbed.deep.stages import Stage, run_stage

LONG_ROPE_BASE = 1e6
"""That of Qwen2-VL itself."""
LONGER_ROPE_BASE = 1e7
"""Evidence more than 200 positions away is missed without it: there the third of six pairs has turned half round."""

JOIN = Stage(
    name="join",
    num_steps=320,
    levels=(7, 7),
    rates=(0.05, 0.004),
    seed=7,
    more_entries=10,
    questions_factor=3,
    revisit_frac=0.5,
    rope_base=LONGER_ROPE_BASE,
    head_dropout=True,
    by_parts_frac=0.6,
)

STAGES = (
    Stage(name="hop", num_steps=100, levels=(0, 4), rates=(1.0, 0.73), seed=0, hop_only=True),
    Stage(name="start", num_steps=100, levels=(0, 6), rates=(0.5, 0.456), seed=1),
    Stage(name="grow", num_steps=100, levels=(1, 6), rates=(0.45, 0.4), seed=2, binding=True),
    Stage(name="bind", num_steps=400, levels=(2, 6), rates=(0.4, 0.1), seed=3, binding=True, more_entries=6),
    Stage(
        name="deepen",
        num_steps=1000,
        levels=(3, 6),
        rates=(0.3, 0.02),
        seed=4,
        binding=True,
        more_entries=4,
        questions_factor=2,
        revisit_frac=0.5,
        rope_base=LONG_ROPE_BASE,
    ),
    Stage(
        name="settle",
        num_steps=300,
        levels=(6, 7),
        rates=(0.12, 0.005),
        seed=5,
        more_entries=4,
        questions_factor=2,
        revisit_frac=0.6,
        rope_base=LONG_ROPE_BASE,
        head_dropout=True,
    ),
    Stage(
        name="lengthen",
        num_steps=200,
        levels=(7, 7),
        rates=(0.08, 0.004),
        seed=6,
        more_entries=4,
        questions_factor=3,
        revisit_frac=0.5,
        rope_base=LONGER_ROPE_BASE,
        head_dropout=True,
    ),
    JOIN,
    Stage(
        name="key",
        num_steps=120,
        levels=(3, 6),
        rates=(0.3, 0.08),
        seed=8,
        more_entries=10,
        questions_factor=2,
        rope_base=LONGER_ROPE_BASE,
        head_dropout=True,
        by_parts_frac=0.6,
        asks_key=True,
        is_half=False,
        from_half=True,
    ),
    replace(JOIN, name="rejoin", num_steps=260, rates=(0.06, 0.003), seed=9, asks_key=True, is_half=False),
)


def train_deep(
    folder: Path,
    *,
    stages: tuple[Stage, ...] = STAGES,
    num_threads: int = 1,
    report: Callable[[str], None] = print,
) -> str:
    """Trains from the small testbed's weights; `<folder>/checkpoint` is the model. Returns its weights' SHA-256.

    The folder also keeps the state after every stage, from which an interrupted call goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        model = build_deep_model(weights_path(), seed=0)
        for stage in stages:
            run_stage(model, stage, folder, report=report)
    finally:
        torch.set_num_threads(before)
    save_deep_checkpoint(model, folder / "checkpoint")
    return hashlib.sha256((folder / "checkpoint" / "model.safetensors").read_bytes()).hexdigest()


def main() -> None:
    """Parses the command line, trains, prints progress with seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and of the stages' states")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default 1, which the shipped weights are of)")
    options = parser.parse_args()
    if options.threads < 1:
        parser.error(f"--threads {options.threads}; allowed: 1 or more")
    started_s = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - started_s:6.0f} s  {line}", flush=True)

    digest = train_deep(options.out, num_threads=options.threads, report=report)
    report(f"wrote {options.out / 'checkpoint'}, weights sha256 {digest}")


if __name__ == "__main__":
    main()
