"""Measures of one checkpoint against what transformers itself computes. They need no knowledge of the family."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch
from PIL import Image, ImageChops
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rampipe.attention.capture import capture_attention
from rampipe.attention.hybrid import hybrid_attention, restrictable_layers
from rampipe.attention.hybrid_plan import HybridPlan
from rampipe.attention.mask import Silence, silence_heads
from rampipe.attention.projections import attention_modules, output_projection
from rampipe.config import CaptureConfig, EvidenceConfig, SpeedConfig
from rampipe.models.images import decode_images
from rampipe.models.prompts import NULL_QUESTION, Prompt, collate, encode
from rampipe.models.replica import Replica
from rampipe.models.tokens import overlap_frac
from rampipe.tables.arms import Arm
from rampipe.tables.timings import ArmTimings
from rampipe.trials.context import context_key
from rampipe.trials.observe import observe
from rampipe.trials.shared import find_contexts
from rampipe.trials.statistics import plan_rows
from rampipe.trials.timing import time_arm
from rampipe.trials.timing_prompt import stretch
from rampipe.trials.trial import Trial
from rampipe.types import QUERY_GROUPS, HeadId, Sample
from tests.unit.attention.reference import eager_references, largest_difference

RULES = EvidenceConfig(min_overlap=0)
BLEED_FRAC, BLEED_PX = 0.3, 2.0
"""Resizing lets a pixel reach so far beyond a token's box: of its side, and of pixels that were enlarged."""
TOUCHED_FRAC = 0.15
"""A token of whose box so much was changed must change."""
NUM_TIMED = 200


def make_prompt(replica: Replica, sample: Sample, **options) -> Prompt:
    return encode(replica, sample, decode_images(sample, max_pixels=10**6), evidence=RULES, **options)


def eager_difference(replica: Replica, samples: Sequence[Sample]) -> float:
    """Largest difference of any statistic, in any layer, from the model's own eager attention over the same batch."""
    prompts = [make_prompt(replica, sample, answer=sample.answers[0]) for sample in samples]
    batch = collate(replica, prompts)
    plan = plan_rows(prompts, [QUERY_GROUPS] * len(prompts), batch.offsets)
    references = eager_references(replica.model, batch.inputs, plan.rows, batch.regions)
    with torch.no_grad(), capture_attention(replica.model, rows=plan.rows, regions=batch.regions) as recorder:
        replica.model.base_model(**batch.inputs, use_cache=False)
    layers = [recorder.layers[index] for index in sorted(recorder.layers)]
    pairs = zip(layers, references, strict=True)
    return max(largest_difference(layer, reference) for layer, reference in pairs)


def batch_difference(replica: Replica, samples: Sequence[Sample]) -> float:
    """Largest difference of logits of the prompts in one padded batch from those of each alone."""
    prompts = [make_prompt(replica, sample) for sample in samples]
    batch = collate(replica, prompts)
    together = _logits(replica, batch.inputs)
    rows = zip(prompts, together, batch.offsets, strict=True)
    return max(float((logits_of(replica, prompt)[0] - row[offset:]).abs().max()) for prompt, row, offset in rows)


def sharing_difference(replica: Replica, samples: Sequence[Sample]) -> float:
    """Largest difference of masses between contexts read once and prompts read one by one."""
    trials = [make_trial(replica, sample) for sample in samples]
    shared, alone = (observe(replica, trials, config=CaptureConfig(share_context=share)) for share in (True, False))
    return max(
        float(abs(left.groups[group].mass - right.groups[group].mass).max())
        for left, right in zip(shared, alone, strict=True)
        for group in left.groups
    )


def shares_contexts(replica: Replica, samples: Sequence[Sample]) -> bool:
    """Whether any context of these is read once."""
    return bool(find_contexts(replica, [make_trial(replica, sample) for sample in samples]))


def make_trial(replica: Replica, sample: Sample, **options) -> Trial:
    null_prompt = make_prompt(replica, sample, question=NULL_QUESTION)
    return Trial(sample, context_key(sample), make_prompt(replica, sample, **options), null_prompt)


def misplaced_tokens(replica: Replica, sample: Sample, *, image: int, prompt: Prompt | None = None) -> list[str]:
    """Where the tokens that change with a part of an image are not those whose boxes lie there.

    With the vision tower's attention removed each patch sees itself alone. Parts are as large as single tokens.
    prompt: the sample's own, perhaps with other boxes or frames.
    """
    images = decode_images(sample, max_pixels=10**6)
    prompt = prompt or make_prompt(replica, sample)
    placed = prompt.token_boxes
    is_shown = (prompt.token_frames == image).any(dim=1)
    before = _visual_inputs(replica, prompt)
    found: list[str] = []
    candidates = (is_shown & ~placed.isnan().any(dim=1)).nonzero().flatten()
    assert len(candidates)
    generator = torch.Generator().manual_seed(image)
    for token in candidates[torch.randperm(len(candidates), generator=generator)[:6]].tolist():
        part = _inner_part(placed[token], images[image].size)
        changed_images = [*images]
        changed_images[image] = _inverted(images[image], part)
        changed = encode(replica, sample, changed_images, evidence=RULES)
        difference = (_visual_inputs(replica, changed) - before).abs().amax(dim=1)
        must = (torch.from_numpy(overlap_frac(placed.numpy(), part)) > TOUCHED_FRAC) & is_shown
        margin = (placed[:, 2:] - placed[:, :2]) * BLEED_FRAC + BLEED_PX
        reach = torch.cat([placed[:, :2] - margin, placed[:, 2:] + margin], dim=1)
        may = (torch.from_numpy(overlap_frac(reach.numpy(), part)) > 0) & is_shown
        silent, noisy = (must & (difference < 1e-4)).sum(), (~may & (difference > 1e-4)).sum()
        if silent or noisy:
            found.append(f"part {part}: {silent} of {must.sum()} did not change, {noisy} of {(~may).sum()} did")
    return found


def tokenizer_ids(replica: Replica, sample: Sample) -> list[int]:
    """Ids that the tokenizer of a model of text makes of the message: one string, question last."""
    message = "".join([*(part.text or "" for part in sample.context), sample.question])
    turn = [{"role": "user", "content": message}]
    return list(replica.tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False))


def processor_ids(processor, sample: Sample) -> list[int]:
    """Ids that the family's own processor makes of the message."""
    images = decode_images(sample, max_pixels=10**6)
    content = [
        {"type": part.kind, "text": part.text} if part.kind == "text" else {"type": "image"} for part in sample.context
    ]
    content.append({"type": "text", "text": sample.question})
    message = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    shown = [images[part.image] for part in sample.context if part.image is not None]
    bos = processor.tokenizer.bos_token
    options = {"add_special_tokens": False} if bos is not None and text.startswith(bos) else {}
    return processor(text=[text], images=[shown] if shown else None, **options)["input_ids"][0]


def ablation_difference(replica: Replica, samples: Sequence[Sample]) -> tuple[float, float]:
    """Of logits with heads silenced: from those without the columns of these heads, and from those of all heads."""
    inputs = collate(replica, [make_prompt(replica, sample) for sample in samples]).inputs
    modules = attention_modules(replica.model)
    heads = frozenset({HeadId(layer, layer % 4) for layer in modules})
    plain = _logits(replica, inputs)
    with silence_heads(replica.model, Silence(heads)):
        silenced = _logits(replica, inputs)
    assert torch.equal(_logits(replica, inputs), plain)
    kept = {}
    for head in heads:
        projection, width = output_projection(modules[head.layer])
        kept[head.layer] = projection.weight.clone()
        projection.weight[:, head.head * width : (head.head + 1) * width] = 0
    expected = _logits(replica, inputs)
    for layer, weight in kept.items():
        output_projection(modules[layer])[0].weight.copy_(weight)
    return float((silenced - expected).abs().max()), float((silenced - plain).abs().max())


def hybrid_difference(replica: Replica, samples: Sequence[Sample], plan: HybridPlan) -> float:
    """Of the last logits under hybrid attention from dense ones, right after the prompt and three tokens later."""
    inputs = collate(replica, [make_prompt(replica, sample) for sample in samples]).inputs
    options = {"max_new_tokens": 4, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    dense = replica.model.generate(**inputs, **options)
    with hybrid_attention(replica.model, plan, text_keys=None) as hybrid:
        cache = hybrid.new_cache(capacity_tokens=inputs["input_ids"].shape[1] + 8)
        restricted = replica.model.generate(**inputs, past_key_values=cache, **options)
    return max(float((left - right).abs().max()) for left, right in zip(dense.logits, restricted.logits, strict=True))


def time_one_arm(replica: Replica, sample: Sample) -> ArmTimings:
    """One head of the last layer that sees every key stays full."""
    heads = (HeadId(restrictable_layers(replica.model)[-1], 0),)
    arm = Arm("one", "top", "keep", "hybrid", "all", "query_head", "overall", 0.1, None, None, 1, 0.1, None, heads)
    settings = {"sink_tokens": 4, "window_tokens": 16, "keep_text": False, "dense_below_tokens": 0}
    config = SpeedConfig(context_tokens=(NUM_TIMED,), new_tokens=3, warmups=1, repeats=2)
    prompt = stretch(make_prompt(replica, sample), context_tokens=NUM_TIMED)
    return time_arm(replica, arm, settings=settings, config=config, prompt=prompt)


@contextmanager
def without_tower_attention(replica: Replica) -> Generator[list[str]]:
    """Attention outside the decoder gives zeros: each patch sees itself alone. Yields the modules that were hushed."""
    decoder, hushed = set(replica.model.get_decoder().modules()), list[str]()
    attend = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def hush(module, query, key, value, *arguments, **options):
        if module in decoder:
            return attend(module, query, key, value, *arguments, **options)
        hushed.append(type(module).__name__)
        return query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[3]), None

    ALL_ATTENTION_FUNCTIONS["sdpa"] = hush
    try:
        yield hushed
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"]


def _visual_inputs(replica: Replica, prompt: Prompt) -> Tensor:
    """[visual, hidden]: what the decoder is given for each visual token."""
    seen: list[Tensor] = []

    def keep(module, arguments, options):
        seen.append(options["inputs_embeds"][0, prompt.visual_positions].clone())

    handle = replica.model.get_decoder().register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with torch.no_grad(), without_tower_attention(replica) as hushed:
            replica.model.base_model(**collate(replica, [prompt]).inputs, use_cache=False)
    finally:
        handle.remove()
    assert hushed, "the vision tower's attention does not go through the registry"
    return seen[0]


def _inner_part(box: Tensor, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Whole pixels of the middle of a box."""
    x0, y0, x1, y1 = box.tolist()
    left, top = (
        min(int(low + 0.25 * (high - low)), limit - 1) for low, high, limit in ((x0, x1, size[0]), (y0, y1, size[1]))
    )
    right, bottom = max(left + 1, int(x1 - 0.25 * (x1 - x0))), max(top + 1, int(y1 - 0.25 * (y1 - y0)))
    return float(left), float(top), float(right), float(bottom)


def _inverted(image: Image.Image, part: tuple[float, float, float, float]) -> Image.Image:
    changed, where = image.copy(), tuple(int(value) for value in part)
    changed.paste(ImageChops.invert(image.crop(where)), where[:2])
    return changed


def logits_of(replica: Replica, prompt: Prompt) -> Tensor:
    """Of one prompt by itself."""
    return _logits(replica, collate(replica, [prompt]).inputs)


def _logits(replica: Replica, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return replica.model(**inputs, use_cache=False).logits
