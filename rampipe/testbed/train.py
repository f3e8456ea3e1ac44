"""Trains the testbed's model from scratch on one CPU thread, in about ten minutes.

    python -m rampipe.testbed.train --out runs/testbed                       # the shipped weights' recipe
    python -m rampipe.testbed.train --out runs/try --seed 1 --steps 1600     # another seed, longer
    python -m rampipe.testbed.evaluate --folder runs/testbed

The same seed, step counts, machine type and library versions give the same bytes: prints the SHA-256 of the weights.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import torch

from rampipe.testbed.architecture import build_model
from rampipe.testbed.checkpoint import save_checkpoint
from rampipe.testbed.consolidation import consolidate
from rampipe.testbed.language import train_language
from rampipe.testbed.vision_warmup import warm_up_vision

SEED = 0
NUM_VISION_STEPS = 900
NUM_LANGUAGE_STEPS = 1200
NUM_CONSOLIDATION_STEPS = 250


def train_testbed(
    folder: Path,
    *,
    seed: int = SEED,
    num_vision_steps: int = NUM_VISION_STEPS,
    num_language_steps: int = NUM_LANGUAGE_STEPS,
    num_consolidation_steps: int = NUM_CONSOLIDATION_STEPS,
    report: Callable[[str], None] = print,
) -> str:
    """Trains, saves the checkpoint folder and returns the SHA-256 of its weights.

    Runs on one thread: more threads change the order of sums, and with it the weights.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = build_model(seed=seed)
        warm_up_vision(model, num_steps=num_vision_steps, seed=seed, report=report)
        train_language(model, num_steps=num_language_steps, seed=seed + 1, report=report)
        consolidate(model, num_steps=num_consolidation_steps, seed=seed + 1, report=report)
    finally:
        torch.set_num_threads(num_threads)
    save_checkpoint(model, folder)
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def main() -> None:
    """Parses the command line, trains, prints progress with seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of weights and data (default {SEED})")
    parser.add_argument(
        "--steps", type=int, default=NUM_LANGUAGE_STEPS, help=f"language steps (default {NUM_LANGUAGE_STEPS})"
    )
    parser.add_argument(
        "--vision-steps", type=int, default=NUM_VISION_STEPS, help=f"vision steps (default {NUM_VISION_STEPS})"
    )
    parser.add_argument(
        "--consolidation-steps",
        type=int,
        default=NUM_CONSOLIDATION_STEPS,
        help=f"steps with head dropout at the end (default {NUM_CONSOLIDATION_STEPS})",
    )
    options = parser.parse_args()
    started_s = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - started_s:6.0f} s  {line}", flush=True)

    digest = train_testbed(
        options.out,
        seed=options.seed,
        num_vision_steps=options.vision_steps,
        num_language_steps=options.steps,
        num_consolidation_steps=options.consolidation_steps,
        report=report,
    )
    report(f"wrote {options.out}, weights sha256 {digest}")


if __name__ == "__main__":
    main()
