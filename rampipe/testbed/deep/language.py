"""Training of the deep language model: the answers' cross-entropy, and nothing that says where to look."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2VLForConditionalGeneration

from rampipe.testbed.deep.architecture import NUM_FRESH_LAYERS
from rampipe.testbed.deep.binding import binding_loss
from rampipe.testbed.deep.content import Content, draw_content, render_image
from rampipe.testbed.deep.curriculum import Level
from rampipe.testbed.deep.layout import ImageLayout, Layout, draw_layout
from rampipe.testbed.deep.packing import KINDS, Order, Packed, pack
from rampipe.testbed.deep.words import MOST_WORDS_AFTER_KEY, SUFFIX
from rampipe.testbed.language import excess_sharpness
from rampipe.testbed.parts import decoder_layers, language_model, vision_tower
from rampipe.testbed.vision import cell_features
from rampipe.testbed.vocabulary import FIRST_KEY_ID, IMAGE, TOKEN_IDS

IMAGE_ID = TOKEN_IDS[IMAGE]
QUESTION_FIRST_FRAC = 0.5
TEXT_ONLY_FRAC = 0.1
"""Share of batches without images: lists to look up, keys to echo."""


@dataclass(frozen=True, slots=True)
class Step:
    """Contexts of one layout with what is asked of them."""

    layout: Layout
    contents: Sequence[Content]
    packed: Packed
    visual: Float[Tensor, "cell hidden"]
    """Features of all visual tokens of the batch, context by context."""
    order: Order


def draw_step(
    model: Qwen2VLForConditionalGeneration,
    level: Level,
    *,
    rng: np.random.Generator,
    order: Order | None = None,
    held_out: bool = False,
) -> Step:
    """Draws a batch of a level and looks at its images with the frozen tower.

    order: None for either. held_out: with keys and values that training never pairs.
    """
    layout = draw_layout(level.size, rng=rng, text_only=rng.random() < TEXT_ONLY_FRAC)
    contents = [draw_content(layout, rng=rng, held_out=held_out) for _ in range(level.num_contexts)]
    features = [torch.zeros(level.num_contexts, 0, vision_tower(model).config.hidden_size)]
    for part, piece in enumerate(layout):
        if isinstance(piece, ImageLayout):
            pixels = np.stack([render_image(layout, content, part, rng=rng) for content in contents])
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                features.append(cell_features(vision_tower(model), pixels).float())
    if order is None:
        order = "question_first" if rng.random() < QUESTION_FIRST_FRAC else "context_first"
    packed = pack(
        layout,
        contents,
        order=order,
        num_questions=level.num_questions,
        sees=level.sight_of_parts if rng.random() < level.by_parts_frac else "all",
        rng=rng,
    )
    return Step(layout, contents, packed, torch.cat(features, dim=1).flatten(0, 1), order)


def embed(model: Qwen2VLForConditionalGeneration, step: Step) -> Float[Tensor, "context token hidden"]:
    """Words and visual tokens as the first block sees them."""
    embedded = language_model(model).embed_tokens(step.packed.input_ids)
    is_cell = step.packed.input_ids == IMAGE_ID
    return embedded.masked_scatter(is_cell[..., None], step.visual.to(embedded.dtype))


def last_hidden(model: Qwen2VLForConditionalGeneration, step: Step) -> Float[Tensor, "context token hidden"]:
    """What all rows hold after the last block. `step.packed.plan.seen` receives how those of the questions looked."""
    packed = step.packed
    outputs = language_model(model)(
        inputs_embeds=embed(model, step),
        position_ids=packed.positions,
        attention_mask={"full_attention": packed.plan},
        use_cache=False,
    )
    return outputs.last_hidden_state


def answer_logits(model: Qwen2VLForConditionalGeneration, step: Step) -> Float[Tensor, "context question 3 word"]:
    """Logits of the rows that predict the answers."""
    return model.lm_head(last_hidden(model, step)[:, step.packed.target_rows]).float()


def key_loss(
    model: Qwen2VLForConditionalGeneration, step: Step, hidden: Float[Tensor, "context token hidden"]
) -> Float[Tensor, ""]:
    """Cross-entropy of the answer's first token at the question's key, as if the prompt ended there.

    For questions that follow the context. hidden: what all rows hold after the last block.
    """
    packed = step.packed
    words = packed.target_rows[:, :1] - len(SUFFIX) - torch.arange(MOST_WORDS_AFTER_KEY + 1)
    is_key = packed.input_ids[:, words] == FIRST_KEY_ID + torch.from_numpy(packed.keys)[..., None]
    logits = model.lm_head(hidden[:, words][is_key]).float()
    return functional.cross_entropy(logits, packed.targets[..., 0].flatten())


def asking_weights(step: Step) -> list[Float[Tensor, "context head question key"]]:
    """Layer by layer, how the last prompt row of every question looked at the keys of the plan's last block."""
    block = step.packed.plan.blocks[-1]
    rows = step.packed.target_rows[:, 0] - block.rows.start
    return [weights[:, :, rows].float() for weights in step.packed.plan.seen]


def sharpness(step: Step) -> Float[Tensor, "layer head"]:
    """How sharply each head looks at items of images: 1 when it always looks at one item, whichever that is.

    As the small testbed's, with the tokens of an item taken together.
    """
    packed, block = step.packed, step.packed.plan.blocks[-1]
    is_visual = (packed.input_ids[0] == IMAGE_ID)[block.keys]
    keys = is_visual.nonzero()[:, 0]
    to_slot = functional.one_hot(packed.slots[block.keys][keys], int(packed.slots.max()) + 1).float()
    on_items = [weights[..., keys] @ to_slot for weights in asking_weights(step)]
    return torch.stack([(items.square().sum(dim=-1).mean(dim=(0, 2)) + 1e-6).sqrt() for items in on_items])


def evidence_masses(step: Step, kind: str) -> Float[Tensor, "layer head"] | None:
    """Mean attention of the last prompt row on what was asked for, over questions of a kind. None without any."""
    packed, block = step.packed, step.packed.plan.blocks[-1]
    asked = torch.from_numpy(packed.asked)
    is_kind = torch.from_numpy(packed.kinds == KINDS.index(kind)) & (asked >= 0)
    if not is_kind.any():
        return None
    is_evidence = (packed.slots[block.keys] == asked[..., None]).float()
    masses = [torch.einsum("chqk,cqk->hcq", weights.detach(), is_evidence) for weights in asking_weights(step)]
    return torch.stack([mass[:, is_kind].mean(dim=1) for mass in masses])


def right_answers(
    logits: Float[Tensor, "context question 3 word"], packed: Packed
) -> Bool[np.ndarray, "context question"]:
    """Which questions have all answer tokens right."""
    return ((logits.argmax(-1) == packed.targets) | (packed.targets < 0)).all(-1).numpy()


def accuracy_by_kind(logits: Float[Tensor, "context question 3 word"], packed: Packed) -> dict[str, float]:
    """Share of questions with all answer tokens right; kinds that were not asked are missing."""
    right = right_answers(logits, packed)
    asked = [packed.kinds == index for index in range(len(KINDS))]
    return {kind: float(right[mask].mean()) for kind, mask in zip(KINDS, asked, strict=True) if mask.any()}


@contextmanager
def after_fresh_blocks(model: Qwen2VLForConditionalGeneration) -> Generator[list[Tensor]]:
    """The list receives what all rows hold after the fresh blocks."""
    hidden: list[Tensor] = []
    layer = decoder_layers(model)[NUM_FRESH_LAYERS]
    handle = layer.register_forward_pre_hook(lambda _module, arguments: hidden.append(arguments[0]))
    try:
        yield hidden
    finally:
        handle.remove()


def update(  # noqa: PLR0913 - what is learnt from, and each term of the loss
    model: Qwen2VLForConditionalGeneration,
    step: Step,
    *,
    optimizers: Sequence[torch.optim.Optimizer],
    price: float,
    binding_rng: np.random.Generator | None = None,
    asks_key: bool = False,
    is_half: bool = True,
) -> tuple[dict[str, float], Float[Tensor, "layer head"]]:
    """One step of training. price: loss for each unit of excess sharpness. binding_rng: adds the `binding_loss`.

    asks_key: adds the `key_loss` where questions follow the context. is_half: in bfloat16 autocast.
    Returns the accuracy by kind of question (`bound`: of entries), and the heads' sharpness.
    """
    with torch.autocast("cpu", torch.bfloat16, enabled=is_half), after_fresh_blocks(model) as hidden:
        rows = last_hidden(model, step)
        logits = model.lm_head(rows[:, step.packed.target_rows]).float()
        at_key = key_loss(model, step, rows) if asks_key and step.order == "context_first" else 0.0
    loss = functional.cross_entropy(logits.flatten(0, 2), step.packed.targets.flatten()) + at_key
    accuracy = accuracy_by_kind(logits.detach(), step.packed)
    if binding_rng is not None:
        context = hidden[0][:, step.packed.context]
        bound = binding_loss(model, context, layout=step.layout, contents=step.contents, rng=binding_rng)
        if bound is not None:
            loss = loss + bound[0]
            accuracy["bound"] = bound[1]
    with torch.set_grad_enabled(price > 0):
        per_head = sharpness(step)
    if price > 0:
        loss = loss + price * excess_sharpness(per_head)
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(list(language_model(model).parameters()), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return accuracy, per_head.detach()
