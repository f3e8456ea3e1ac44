"""First stage of the deep testbed's training: the text hop, before anything is asked of images.

The small model's blocks fetch evidence when a row is the key's word. Here the row that answers is another one: the
fresh blocks learn to make it look like the key's word, wherever in the question that stands and whatever other keys the
context's lists name. The target is what the row holds after them, never where a head looks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2VLForConditionalGeneration

from rampipe.testbed.deep.architecture import NUM_FRESH_LAYERS
from rampipe.testbed.deep.language import Step, embed
from rampipe.testbed.deep.packing import KINDS
from rampipe.testbed.deep.words import NUM_ALL_KEYS
from rampipe.testbed.parts import decoder_layers, language_model, word_embeddings
from rampipe.testbed.vocabulary import FIRST_KEY_ID

LIKENESS_SCALE = 16.0
"""Factor on the likeness, a cosine, before the softmax."""


def last_rows(model: Qwen2VLForConditionalGeneration, step: Step) -> Float[Tensor, "context question hidden"]:
    """What the last prompt row of every question holds after the fresh blocks."""
    hidden = embed(model, step)
    rotary = language_model(model).rotary_emb(hidden, step.packed.positions)
    for layer in decoder_layers(model)[:NUM_FRESH_LAYERS]:
        hidden = layer(hidden, attention_mask=step.packed.plan, position_embeddings=rotary)
    return hidden[:, step.packed.target_rows[:, 0]].float()


def update_hop(
    model: Qwen2VLForConditionalGeneration, step: Step, *, optimizers: Sequence[torch.optim.Optimizer]
) -> dict[str, float]:
    """One step: which of all keys the row is most like, and how like its word. Returns accuracy by kind of question."""
    with torch.autocast("cpu", torch.bfloat16):
        rows = last_rows(model, step)
    words = word_embeddings(model)[FIRST_KEY_ID : FIRST_KEY_ID + NUM_ALL_KEYS].detach()
    keys = torch.from_numpy(step.packed.keys)
    likeness = functional.normalize(rows, dim=-1) @ functional.normalize(words, dim=-1).T
    distance = 1 - likeness.gather(-1, keys[..., None]).mean()
    loss = functional.cross_entropy(LIKENESS_SCALE * likeness.flatten(0, 1), keys.flatten()) + distance
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(list(language_model(model).parameters()), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    right = (likeness.argmax(-1) == keys).numpy()
    asked = [step.packed.kinds == index for index in range(len(KINDS))]
    return {kind: float(right[mask].mean()) for kind, mask in zip(KINDS, asked, strict=True) if mask.any()}
