"""Measures a deep testbed checkpoint under hybrid attention, on long contexts with many packed questions each.

    python -m rampipe.testbed.deep.hybrid                                   # the weights that ship with the package
    python -m rampipe.testbed.deep.hybrid --contexts 4 --strict --orders context_first

A few heads see all; the others see the first tokens, the nearest ones and, unless the window is strict, all text. As
`rampipe.testbed.deep.evaluate`, it shares no code with the attention that users run.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2VLForConditionalGeneration
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rampipe.testbed.architecture import NUM_HEADS
from rampipe.testbed.deep.architecture import NUM_LAYERS
from rampipe.testbed.deep.attention import NAME, Plan
from rampipe.testbed.deep.checkpoint import deep_weights_path
from rampipe.testbed.deep.curriculum import LEVELS
from rampipe.testbed.deep.evaluate import ORDERS, load_deep, observe, rank_by_mass
from rampipe.testbed.deep.language import IMAGE_ID, Step, answer_logits, draw_step, right_answers
from rampipe.testbed.deep.packing import KINDS, Order
from rampipe.testbed.parts import language_model
from rampipe.types import HeadId

HYBRID = "testbed_hybrid"
SINK_TOKENS, WINDOW_TOKENS = 4, 64
FULL_FRAC = 0.1
NUM_RANDOM = 3
LONG, RANKED = 8, 4
"""Levels of the contexts that are asked about, and of those that heads are ranked on."""


def prompt_places(step: Step) -> Int[Tensor, " token"]:
    """Where each token would be in the prompt of its own question: packed questions stand beside each other."""
    packed, context = step.packed, step.packed.context
    num_tokens, num_questions = packed.input_ids.shape[1], len(packed.target_rows)
    places = torch.arange(num_tokens)
    if step.order == "context_first":
        stops = packed.target_rows[:, -1] + 1
        starts = torch.cat([torch.tensor([context.stop]), stops[:-1]])
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            places[start:stop] = context.stop + torch.arange(stop - start)
        return places
    length = (context.start - 1) // num_questions
    after = 1 + length + context.stop - context.start
    places[1 : context.start] = torch.arange(1, 1 + length).repeat(num_questions)
    places[context] -= context.start - 1 - length
    places[context.stop :] = after + torch.arange((num_tokens - context.stop) // num_questions).repeat(num_questions)
    return places


def hidden_keys(step: Step, *, keep_text: bool) -> Bool[Tensor, "token token"]:
    """Keys that a restricted head does not see from each row."""
    places = prompt_places(step)
    seen = (places[:, None] - places[None, :] < WINDOW_TOKENS) | (places[None, :] < SINK_TOKENS)
    return ~(seen | (step.packed.input_ids[0] != IMAGE_ID)[None, :]) if keep_text else ~seen


@contextmanager
def hybrid(
    model: Qwen2VLForConditionalGeneration, full: Sequence[HeadId], hidden: Bool[Tensor, "token token"]
) -> Generator[None]:
    """All heads but `full` miss the hidden keys, in every row."""
    is_full = torch.zeros(NUM_LAYERS, NUM_HEADS, dtype=torch.bool)
    for head in full:
        is_full[head.layer, head.head] = True

    def attend(
        module: nn.Module,
        query: Float[Tensor, "batch head token width"],
        key: Float[Tensor, "batch kv_head token width"],
        value: Float[Tensor, "batch kv_head token width"],
        attention_mask: Plan,
        scaling: float,
        **_: object,
    ) -> tuple[Float[Tensor, "batch token head width"], None]:
        of_layer = is_full[int(module.layer_idx)]  # pyright: ignore[reportArgumentType]
        group = query.shape[1] // key.shape[1]
        outputs: list[Tensor] = []
        for block in attention_mask.blocks:
            masked = hidden[block.rows][:, block.keys]
            mask = block.mask.to(query.dtype)
            restricted = mask.masked_fill(masked, torch.finfo(query.dtype).min)
            keys, values = (states.index_select(2, block.keys) for states in (key, value))
            mixed = torch.empty_like(query[:, :, block.rows], dtype=value.dtype)
            for heads, own in ((of_layer, mask), (~of_layer, restricted)):
                chosen = heads.nonzero()[:, 0]
                if len(chosen):
                    rows = query[:, :, block.rows][:, chosen]
                    read = functional.scaled_dot_product_attention(
                        rows, keys[:, chosen // group], values[:, chosen // group], attn_mask=own, scale=scaling
                    )
                    mixed[:, chosen] = read.to(value.dtype)
            outputs.append(mixed)
        return torch.cat(outputs, dim=2).transpose(1, 2), None

    functions: Any = ALL_ATTENTION_FUNCTIONS
    functions.register(HYBRID, attend)
    language_model(model).set_attn_implementation(HYBRID)
    try:
        yield
    finally:
        language_model(model).set_attn_implementation(NAME)


def draw_long(model: Qwen2VLForConditionalGeneration, order: Order, num_contexts: int, *, seed: int) -> list[Step]:
    """Long contexts with images and held-out needles, whole. The same seed draws the same."""
    rng = np.random.default_rng([seed, LONG, 13])
    whole = replace(LEVELS[LONG], by_parts_frac=0.0)
    steps: list[Step] = []
    while len(steps) < num_contexts:
        step = draw_step(model, whole, rng=rng, order=order, held_out=True)
        if len(step.visual):
            steps.append(step)
    return steps


Measured = dict[tuple[str, str], dict[tuple[int, int], float]]
"""Accuracy by arm and kind, of each needle of each context: a needle that is asked for several times counts once."""


class Compared(NamedTuple):
    """error: one standard error of the difference, over contexts."""

    num_needles: int
    accuracy: float
    difference: float
    error: float


@torch.no_grad()
def measure(
    model: Qwen2VLForConditionalGeneration,
    steps: Sequence[Step],
    arms: Mapping[str, Sequence[HeadId]],
    *,
    keep_text: bool,
) -> Measured:
    """Asks all questions of all contexts in every arm. An echo has no needle: each counts."""
    asked: dict[tuple[str, str], dict[tuple[int, int], list[bool]]] = {}
    for context, step in enumerate(steps):
        hidden = hidden_keys(step, keep_text=keep_text)
        packed = step.packed
        needles = np.where(packed.asked[0] >= 0, packed.asked[0], -1 - np.arange(packed.asked.shape[1])).tolist()
        kinds = [KINDS[kind] for kind in packed.kinds[0]]
        for arm, heads in arms.items():
            with hybrid(model, heads, hidden):
                logits = answer_logits(model, step)
            right = right_answers(logits, packed)[0].tolist()
            for kind, needle, is_right in zip(kinds, needles, right, strict=True):
                asked.setdefault((arm, kind), {}).setdefault((context, needle), []).append(is_right)
    return {
        group: {needle: float(np.mean(right)) for needle, right in by_needle.items()}
        for group, by_needle in asked.items()
    }


def compare(measured: Measured, base: str) -> dict[tuple[str, str], Compared]:
    """By arm and kind, against the base on the same needles."""
    found: dict[tuple[str, str], Compared] = {}
    for (arm, kind), accuracy in measured.items():
        of_base = measured[base, kind]
        differences = {needle: value - of_base[needle] for needle, value in accuracy.items()}
        mean = float(np.mean(list(differences.values())))
        by_context: dict[int, float] = defaultdict(float)
        for (context, _), difference in differences.items():
            by_context[context] += difference - mean
        error = float(np.linalg.norm(list(by_context.values()))) / len(differences)
        found[arm, kind] = Compared(len(differences), float(np.mean(list(accuracy.values()))), mean, error)
    return found


def choose_arms(ranking: Sequence[HeadId], *, seed: int) -> dict[str, Sequence[HeadId]]:
    """Which heads see all: every head, the first of the ranking, as many at random, none."""
    num_full = round(FULL_FRAC * len(ranking))
    arms: dict[str, Sequence[HeadId]] = {"all": ranking, f"top {num_full}": ranking[:num_full]}
    for draw in range(NUM_RANDOM):
        chosen = np.random.default_rng([seed, draw]).permutation(len(ranking))[:num_full]
        arms[f"random {num_full}, {draw}"] = [ranking[place] for place in chosen]
    return {**arms, "none": []}


def main() -> None:
    """Prints, for each prompt order, accuracy (needles) and difference to all heads, by arm and kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=deep_weights_path(), help="checkpoint folder")
    parser.add_argument("--contexts", type=int, default=24, help="contexts of 2,000 tokens and more, 64 questions each")
    parser.add_argument("--orders", nargs="+", choices=ORDERS, default=list(ORDERS))
    parser.add_argument("--strict", action="store_true", help="restricted heads do not see text outside the window")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = load_deep(options.folder)
    for order in options.orders:
        mass = observe(model, RANKED, order=order, num_steps=4, seed=options.seed + 1).mass
        ranking = rank_by_mass(4 * mass["image"] + mass["text"])  # four domains of images, one of text
        steps = draw_long(model, order, options.contexts, seed=options.seed)
        lengths = [step.packed.context.stop - step.packed.context.start for step in steps]
        measured = measure(model, steps, choose_arms(ranking, seed=options.seed), keep_text=not options.strict)
        print(f"{order}, contexts of {min(lengths)} to {max(lengths)} tokens, sharpest heads first: ", *ranking[:6])
        for (arm, kind), result in sorted(compare(measured, "all").items()):
            shown = f"{result.accuracy:.3f} ({result.num_needles}), {result.difference:+.3f} ± {result.error:.3f}"
            print(f"    {arm}, {kind}: {shown}", flush=True)


if __name__ == "__main__":
    main()
