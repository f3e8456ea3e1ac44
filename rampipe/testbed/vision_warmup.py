"""Stage 1 of training: the vision tower learns to read cells, before there is a language model to ask.

Linear probes read the two key attributes and the two digits off each cell, and a contrastive loss pulls the feature of
a cell towards the word embedding of its key. The tower is frozen afterwards. Without the contrastive part retrieval
still emerges in stage 2, but far later.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2VLForConditionalGeneration

from rampipe.testbed.batches import Batch, make_batch
from rampipe.testbed.domains import DOMAINS, NUM_ATTRIBUTE_VALUES, NUM_KEYS
from rampipe.testbed.parts import text_config, vision_tower, word_embeddings
from rampipe.testbed.vision import cell_features
from rampipe.testbed.vocabulary import FIRST_KEY_ID

PROBE_WIDTHS = (NUM_ATTRIBUTE_VALUES, NUM_ATTRIBUTE_VALUES, 10, 10)
"""Classes of the four probes: first and second attribute, first and second digit."""
LEARNING_RATE = 4e-3
NUM_WARMUP_STEPS = 20
FINAL_RATE_FRAC = 0.05
NUM_IMAGES = 16
GRID_SIDE = 6
REPORT_EVERY_STEPS = 50


def rate_frac(step: int, num_steps: int) -> float:
    """Share of the full learning rate: a linear rise, then a linear fall."""
    if step < NUM_WARMUP_STEPS:
        return (step + 1) / NUM_WARMUP_STEPS
    done_frac = (step - NUM_WARMUP_STEPS) / max(1, num_steps - NUM_WARMUP_STEPS)
    return 1.0 - (1.0 - FINAL_RATE_FRAC) * done_frac


def probe_targets(batch: Batch) -> Int[Tensor, "cell 4"]:
    """The four classes of every cell, in the order of PROBE_WIDTHS."""
    attributes = np.stack(np.divmod(batch.keys, NUM_ATTRIBUTE_VALUES), axis=-1)
    return torch.from_numpy(np.concatenate([attributes, batch.digits], axis=-1)).flatten(0, 1)


def warmup_loss(
    model: Qwen2VLForConditionalGeneration, probes: nn.Linear, batch: Batch
) -> tuple[Float[Tensor, ""], list[float]]:
    """The loss of one batch, and the accuracy of the four probes and of the key match."""
    hidden = probes.in_features
    features = functional.rms_norm(cell_features(vision_tower(model), batch.pixels).float(), (hidden,))
    flat = features.flatten(0, 1)
    domains = torch.from_numpy(batch.domains).repeat_interleave(batch.keys.shape[1])
    logits = probes(flat).float().view(len(flat), len(DOMAINS), sum(PROBE_WIDTHS))
    per_probe = logits[torch.arange(len(flat)), domains].split(PROBE_WIDTHS, dim=-1)
    words = word_embeddings(model)[FIRST_KEY_ID : FIRST_KEY_ID + len(DOMAINS) * NUM_KEYS]
    key_logits = (flat @ words.T).float()
    key_targets = domains * NUM_KEYS + torch.from_numpy(batch.keys).flatten()
    targets = probe_targets(batch)
    pairs = [*zip(per_probe, targets.unbind(-1), strict=True), (key_logits, key_targets)]
    losses = [functional.cross_entropy(scores, target) for scores, target in pairs]
    hits = [float((scores.argmax(-1) == target).float().mean()) for scores, target in pairs]
    return torch.stack(losses).sum(), hits


def warm_up_vision(
    model: Qwen2VLForConditionalGeneration, *, num_steps: int, seed: int, report: Callable[[str], None] = print
) -> None:
    """Trains the vision tower and the key words' embeddings, then freezes the tower."""
    generator = torch.Generator().manual_seed(seed + 1)
    probes = nn.Linear(text_config(model.config).hidden_size, len(DOMAINS) * sum(PROBE_WIDTHS))
    with torch.no_grad():
        probes.weight.normal_(0.0, 0.02, generator=generator)
        probes.bias.zero_()
    rng = np.random.default_rng([seed, 1])
    trained = [*vision_tower(model).parameters(), word_embeddings(model), *probes.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rate_frac(step, num_steps)
        batch = make_batch(grid_side=GRID_SIDE, num_images=NUM_IMAGES, rng=rng)
        with torch.autocast("cpu", torch.bfloat16):
            loss, hits = warmup_loss(model, probes, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if (step + 1) % REPORT_EVERY_STEPS == 0:
            shown = " ".join(f"{hit:.3f}" for hit in hits)
            report(f"vision {step + 1}/{num_steps} loss {loss.item():.3f} first second digit1 digit2 key {shown}")
    vision_tower(model).requires_grad_(False)
