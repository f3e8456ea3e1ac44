"""Measures a deep testbed checkpoint on packed questions with held-out needles, under the masks of ordinary prompts.

    python -m rampipe.testbed.deep.evaluate                       # the weights that ship with the package
    python -m rampipe.testbed.deep.evaluate --folder runs/deep/checkpoint --steps 16

It shares no code with the capture and ablation that users run, and answers many more questions a second.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import Qwen2VLForConditionalGeneration

from rampipe.testbed.deep.attention import NAME
from rampipe.testbed.deep.checkpoint import deep_weights_path
from rampipe.testbed.deep.curriculum import LEVELS
from rampipe.testbed.deep.language import answer_logits, draw_step, evidence_masses, right_answers
from rampipe.testbed.deep.packing import KINDS, Order
from rampipe.testbed.evaluate import silenced
from rampipe.testbed.parts import language_model
from rampipe.types import HeadId

ORDERS: tuple[Order, ...] = get_args(Order)
EVIDENT_KINDS = ("image", "text")


@dataclass(frozen=True, slots=True)
class Observed:
    """correct: by kind of question, one value each. mass: of the last prompt row on the evidence, mean of the steps."""

    correct: dict[str, list[bool]]
    mass: dict[str, Float[Tensor, "layer head"]]

    def accuracy(self, kind: str) -> float:
        """Share of the questions of a kind that were answered right."""
        return float(np.mean(self.correct[kind]))


def load_deep(folder: Path) -> Qwen2VLForConditionalGeneration:
    """A checkpoint for packed questions, in float32."""
    model = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    model.set_attn_implementation("eager")
    language_model(model).set_attn_implementation(NAME)
    return model.eval()


@torch.no_grad()
def observe(
    model: Qwen2VLForConditionalGeneration,
    level: int,
    *,
    order: Order,
    num_steps: int,
    seed: int,
    heads: Sequence[HeadId] = (),
) -> Observed:
    """Answers of so many batches of a level, with heads silenced. The same seed asks the same questions."""
    whole = replace(LEVELS[level], by_parts_frac=0.0)
    rng = np.random.default_rng([seed, level, 11])
    correct: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    masses: dict[str, list[Tensor]] = {kind: [] for kind in EVIDENT_KINDS}
    with silenced(model, heads):
        for _ in range(num_steps):
            step = draw_step(model, whole, rng=rng, order=order, held_out=True)
            right = right_answers(answer_logits(model, step), step.packed)
            for index, kind in enumerate(KINDS):
                correct[kind].extend(right[step.packed.kinds == index].tolist())
            for kind, found in masses.items():
                mass = evidence_masses(step, kind)
                if mass is not None:
                    found.append(mass)
    return Observed(correct, {kind: torch.stack(found).mean(dim=0) for kind, found in masses.items() if found})


def rank_by_mass(mass: Float[Tensor, "layer head"]) -> list[HeadId]:
    """Heads, those that look most at the evidence first."""
    order = mass.flatten().argsort(descending=True, stable=True).tolist()
    return [HeadId(*divmod(head, mass.shape[1])) for head in order]


def describe(observed: Observed) -> str:
    """Accuracy by kind, with the number of questions."""
    return ", ".join(f"{kind} {observed.accuracy(kind):.3f} ({len(right)})" for kind, right in observed.correct.items())


def main() -> None:
    """Prints accuracy by level and order, the strongest heads, and the accuracy without the top 5 % and lowest 5 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=deep_weights_path(), help="checkpoint folder")
    parser.add_argument("--levels", type=int, nargs="+", default=[3, 4, 5, 6], help="sizes of contexts, 0 to 8 (long)")
    parser.add_argument("--steps", type=int, default=8, help="batches of each level and order")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = load_deep(options.folder)
    for order in ORDERS:
        for level in options.levels:
            observed = observe(model, level, order=order, num_steps=options.steps, seed=options.seed)
            print(f"{order}, level {level}: {describe(observed)}", flush=True)
            for kind, mass in observed.mass.items():
                shown = [f"{head} {mass[head.layer, head.head]:.2f}" for head in rank_by_mass(mass)[:8]]
                print(f"    RAM {kind}: {', '.join(shown)}")
        selected = observe(model, options.levels[0], order=order, num_steps=options.steps, seed=options.seed + 1)
        ranking = rank_by_mass(selected.mass["image"] + selected.mass["text"])
        num_heads = round(0.05 * len(ranking))
        for name, heads in (("top", ranking[:num_heads]), ("lowest", ranking[-num_heads:])):
            kept = observe(
                model, options.levels[0], order=order, num_steps=options.steps, seed=options.seed, heads=heads
            )
            print(f"{order}, level {options.levels[0]}, without the {name} {num_heads}: {describe(kept)}", flush=True)


if __name__ == "__main__":
    main()
