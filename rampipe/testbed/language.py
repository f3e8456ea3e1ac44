"""Stage 2 of training: the language model learns to find the cell that a question names.

Nothing tells a head where to look. A small price on looking sharply makes a few heads do what a committee of ten would
do otherwise: without it, removing the strongest 5 % of the heads left most of the accuracy. Matrices train with Muon,
the rest with AdamW; the vision tower stays frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2VLForConditionalGeneration

from rampipe.testbed.batches import Batch, make_batch
from rampipe.testbed.curriculum import GRID_SIDES, MAX_QUESTIONS, NUM_IMAGES, Curriculum
from rampipe.testbed.domains import DOMAINS
from rampipe.testbed.packing import (
    NUM_PREFIX_TOKENS,
    PackedQuestions,
    additive_mask,
    block_mask,
    pack_questions,
    packed_positions,
)
from rampipe.testbed.parts import language_model, vision_tower
from rampipe.testbed.vision import cell_features

MUON_RATE = 7e-3
ADAMW_RATE = 4e-3
WEIGHT_DECAY = 0.05
NUM_WARMUP_STEPS = 20
FINAL_RATE_FRAC = 0.03
REPORT_EVERY_STEPS = 50
SHARPNESS_PRICE = 0.05
"""Loss for one head that looks at a single cell; charged from the second grid size on."""
FREE_SHARPNESS = 0.2
"""Sharpness below which a head pays nothing: spread-out attention is free."""


def rate_frac(step: int, num_steps: int) -> float:
    """Share of the full learning rate: constant after a short rise, then a linear fall over the last half."""
    fall_frac = max(0.0, 2 * step / num_steps - 1)
    return min(1.0, (step + 1) / NUM_WARMUP_STEPS) * (1 - (1 - FINAL_RATE_FRAC) * fall_frac)


def make_optimizers(model: Qwen2VLForConditionalGeneration) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices of the blocks, AdamW for embeddings, norms and biases."""
    language = language_model(model)
    matrices = [weight for weight in language.layers.parameters() if weight.ndim == 2]
    others = [weight for weight in language.parameters() if not any(weight is matrix for matrix in matrices)]
    return (
        torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=ADAMW_RATE, weight_decay=0.0),
    )


def sharpness(
    attentions: Sequence[Float[Tensor, "image head query key"]],
    *,
    asking_rows: Int[Tensor, " question"],
    num_cells: int,
) -> Float[Tensor, "layer head"]:
    """How sharply each head looks at cells: 1 when it always looks at one cell, whichever that is.

    The root mean square over questions of the norm of its attention on cells. The mean inside the root makes two heads
    that each answer half of the questions dearer than one that answers all.
    """
    cells = slice(NUM_PREFIX_TOKENS, NUM_PREFIX_TOKENS + num_cells)
    on_cells = torch.stack([layer[:, :, asking_rows, cells].float() for layer in attentions])
    return (on_cells.square().sum(dim=-1).mean(dim=(1, 3)) + 1e-6).sqrt()


def excess_sharpness(per_head: Float[Tensor, "layer head"]) -> Float[Tensor, ""]:
    """What the heads pay for: sharpness beyond what is free, summed over heads."""
    return (per_head - FREE_SHARPNESS).relu().sum()


def answer_logits(
    model: Qwen2VLForConditionalGeneration, batch: Batch, packed: PackedQuestions
) -> tuple[Float[Tensor, "image question 3 word"], Float[Tensor, "layer head"]]:
    """Logits of the rows that predict the answers, and the heads' sharpness at the rows that ask."""
    grid_side = round(batch.keys.shape[1] ** 0.5)
    num_questions = packed.targets.shape[1]
    with torch.no_grad():
        cells = cell_features(vision_tower(model), batch.pixels)
    embedded = language_model(model).embed_tokens(packed.input_ids)
    is_cell = packed.input_ids == model.config.image_token_id
    embedded = embedded.masked_scatter(is_cell[..., None], cells.to(embedded.dtype))
    mask = additive_mask(block_mask(num_cells=grid_side**2, num_questions=num_questions))
    outputs = language_model(model)(
        inputs_embeds=embedded,
        position_ids=packed_positions(grid_side=grid_side, num_questions=num_questions),
        attention_mask={"full_attention": mask},
        use_cache=False,
        output_attentions=True,
    )
    per_head = sharpness(outputs.attentions, asking_rows=packed.target_rows[:, 0], num_cells=grid_side**2)
    return model.lm_head(outputs.last_hidden_state[:, packed.target_rows]).float(), per_head


def exact_matches(
    logits: Float[Tensor, "image question 3 word"], packed: PackedQuestions
) -> Bool[Tensor, "image question"]:
    """Whether all three answer tokens are right."""
    return (logits.argmax(-1) == packed.targets).all(-1)


def draw_batch(stage: int, rng: np.random.Generator) -> tuple[Batch, PackedQuestions]:
    """Images and questions of one step."""
    batch = make_batch(grid_side=GRID_SIDES[stage], num_images=NUM_IMAGES[stage], rng=rng)
    return batch, pack_questions(batch, num_questions=min(MAX_QUESTIONS, GRID_SIDES[stage] ** 2), rng=rng)


def update(
    model: Qwen2VLForConditionalGeneration,
    drawn: tuple[Batch, PackedQuestions],
    *,
    optimizers: Sequence[torch.optim.Optimizer],
    price: float,
) -> tuple[Float[Tensor, " image"], Float[Tensor, "layer head"]]:
    """One step of training. price: loss for each unit of excess sharpness. Returns accuracy by image, and sharpness."""
    batch, packed = drawn
    with torch.autocast("cpu", torch.bfloat16):
        logits, per_head = answer_logits(model, batch, packed)
    loss = functional.cross_entropy(logits.flatten(0, 2), packed.targets.flatten())
    if price:
        loss = loss + price * excess_sharpness(per_head)
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(list(language_model(model).parameters()), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return exact_matches(logits, packed).float().mean(dim=1), per_head.detach()


def train_language(
    model: Qwen2VLForConditionalGeneration, *, num_steps: int, seed: int, report: Callable[[str], None] = print
) -> None:
    """Trains the language model on haystacks of growing size, for num_steps steps."""
    rng = np.random.default_rng([seed, 2])
    optimizers = make_optimizers(model)
    full_rates = (MUON_RATE, ADAMW_RATE)
    curriculum = Curriculum()
    recent: list[float] = []
    for step in range(num_steps):
        for optimizer, full_rate in zip(optimizers, full_rates, strict=True):
            optimizer.param_groups[0]["lr"] = full_rate * rate_frac(step, num_steps)
        stage = curriculum.draw_stage(rng)
        price = SHARPNESS_PRICE if curriculum.stage > 0 else 0.0
        accuracy, per_head = update(model, draw_batch(stage, rng), optimizers=optimizers, price=price)
        matches = accuracy.numpy()
        recent = [*recent[1 - REPORT_EVERY_STEPS :], float(matches.mean())]
        if curriculum.record(stage, matches.reshape(-1, len(DOMAINS)).mean(axis=0)):
            report(f"language step {step + 1}: on to {GRID_SIDES[curriculum.stage]} x {GRID_SIDES[curriculum.stage]}")
        if (step + 1) % REPORT_EVERY_STEPS == 0:
            side, mean = GRID_SIDES[curriculum.stage], sum(recent) / len(recent)
            smoothed = " ".join(f"{value:.3f}" for value in curriculum.accuracy)
            progress = f"language {step + 1}/{num_steps} grid {side} accuracy {mean:.3f} by domain {smoothed}"
            report(f"{progress} sharpness {excess_sharpness(per_head).item():.2f}")
