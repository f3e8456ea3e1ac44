"""Every family, by the same checks: each number is compared with what transformers makes of the same checkpoint."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rampipe.attention.hybrid_plan import HybridPlan
from rampipe.errors import ConfigError, ModelError
from rampipe.models.families import FAMILIES
from tests.families import checks, spread
from tests.families.builders import BUILDERS
from tests.families.samples import SIZES, one_image, one_video, only_text, several_images
from tests.families.table import README, lines

TOLERANCE = 1e-4
WINDOW_OF_ALL = HybridPlan(full_heads=frozenset(), sink_tokens=0, window_tokens=4096, keep_text=False)
SAMPLES = {"one image": one_image, "several images": several_images, "video": one_video}


@pytest.fixture
def shown(builder, replica, verified):
    """Makes the sample of a check; skips the test, with a reason in the table, where the family is not shown such."""

    def make(check: str, kind: str | None = None):
        kind = kind or check
        if replica.vision is None:
            verified(check, "text only")
            pytest.skip(f"{builder} reads text only")
        if kind == "video" and not replica.family.VIDEO:
            if check == kind:
                verified(check, "not supported")
            pytest.skip(f"{builder} is not shown videos here")
        return SAMPLES[kind]()

    return make


@pytest.mark.parametrize("check", ["one image", "several images", "video"])
def test_statistics_are_those_of_eager_attention(replica, shown, verified, check):
    assert checks.eager_difference(replica, [shown(check)]) < TOLERANCE
    verified(check)


def _unlike_samples(replica):
    """Of different lengths."""
    long = only_text(question="Which code is it that opens the door when the sun shines?")
    return [only_text(), long] if replica.vision is None else [several_images(), one_image(), only_text()]


def test_statistics_of_a_padded_batch(replica, verified):
    assert checks.eager_difference(replica, _unlike_samples(replica)) < TOLERANCE
    assert checks.batch_difference(replica, _unlike_samples(replica)) < TOLERANCE
    verified("padded batch")


def test_contexts_are_shared_exactly(replica, verified):
    """Two questions and the null question on one context, beside another sample."""
    ask = only_text if replica.vision is None else one_image
    samples = [ask(), ask(question="Where? Tell me more."), _unlike_samples(replica)[0]]
    assert checks.sharing_difference(replica, samples) < TOLERANCE
    verified("shared context", "yes" if checks.shares_contexts(replica, samples) else "read one by one")


@pytest.mark.parametrize("kind", ["one image", "several images", "video"])
def test_tokens_change_with_the_pixels_in_their_boxes(replica, shown, verified, kind):
    sample = shown("boxes", kind)
    for image in range(len(sample.images)):
        assert checks.misplaced_tokens(replica, sample, image=image) == []
    verified("boxes")


def test_mirrored_boxes_are_noticed(replica, shown):
    sample = shown("boxes", "one image")
    prompt = checks.make_prompt(replica, sample)
    boxes, width = prompt.token_boxes.clone(), SIZES[0][0]
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    assert checks.misplaced_tokens(replica, sample, image=0, prompt=replace(prompt, token_boxes=boxes))


def test_exchanged_frames_are_noticed(replica, shown):
    sample = shown("boxes", "video")
    prompt = checks.make_prompt(replica, sample)
    last = int(prompt.token_frames.max())
    frames = torch.where(prompt.token_frames < 0, -1, last - prompt.token_frames)
    assert checks.misplaced_tokens(replica, sample, image=0, prompt=replace(prompt, token_frames=frames))


def test_tokens_are_those_of_the_tokenizer(replica, verified):
    if replica.vision is not None:
        pytest.skip("has a processor")
    sample = only_text()
    assert checks.make_prompt(replica, sample).input_ids.tolist() == checks.tokenizer_ids(replica, sample)
    verified("prompt", "yes")


@pytest.mark.parametrize("kind", ["one image", "several images"])
def test_tokens_are_those_of_the_familys_processor(builder, replica, shown, verified, kind):
    if replica.vision is None:
        pytest.skip("has no processor")
    sample = shown("prompt", kind)
    if builder.processor is None:
        verified("prompt", "no processor without torchvision")
        pytest.skip(f"the processor of {builder} needs torchvision")
    expected = checks.processor_ids(builder.processor(replica), sample)
    assert checks.make_prompt(replica, sample).input_ids.tolist() == expected
    verified("prompt")


def test_silenced_heads_are_gone(replica, verified):
    from_removed, from_plain = checks.ablation_difference(replica, _unlike_samples(replica))
    assert from_removed < 1e-5 < 1e-3 < from_plain
    verified("zero-ablation")


def test_hybrid_attention_that_keeps_all_is_dense(builder, replica, verified):
    samples = _unlike_samples(replica)
    if builder.hybrid_refusal is not None:
        with pytest.raises((ConfigError, ModelError), match=builder.hybrid_refusal):
            checks.hybrid_difference(replica, samples, WINDOW_OF_ALL)
        return verified("hybrid attention", f"refused: {builder.hybrid_refusal}")
    assert checks.hybrid_difference(replica, samples, WINDOW_OF_ALL) < TOLERANCE
    narrow = HybridPlan(full_heads=frozenset(), sink_tokens=0, window_tokens=8, keep_text=False)
    assert checks.hybrid_difference(replica, samples, narrow) > TOLERANCE
    return verified("hybrid attention")


def test_arms_are_timed_with_caches_as_large_as_predicted(builder, replica, verified):
    if builder.hybrid_refusal is not None:
        verified("speed", "as hybrid attention")
        pytest.skip(f"{builder} is not restricted")
    timings = checks.time_one_arm(replica, _unlike_samples(replica)[-1])
    for repetition in timings.repetitions:
        assert repetition.cache_bytes == timings.predicted_cache_bytes < repetition.dense_cache_bytes
    verified("speed")


def test_layers_on_two_gpus_give_the_same(builder, replica, verified):
    restricts = builder.hybrid_refusal is None
    difference = spread.spread_difference(replica, _unlike_samples(replica)[-2:], restricts=restricts)
    assert difference < 1e-5
    verified("two GPUs (simulated)")


def test_the_model_is_back_as_it_was(replica):
    prompt = checks.make_prompt(replica, _unlike_samples(replica)[0])
    before = checks.logits_of(replica, prompt)
    with checks.without_tower_attention(replica):
        pass
    assert torch.equal(checks.logits_of(replica, prompt), before)


def test_committed_table_has_every_family():
    """One row for each checkpoint that is built, and a checkpoint for each `model_type` that is known."""
    rows = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    expected = [line.split(" | ")[:2] for line in lines({}) if line.startswith("| ")]
    assert [row.split(" | ")[:2] for row in rows] == expected
    assert "FAILED" not in "".join(rows)
    assert "not run" not in "".join(rows)
    built = {builder.model_type for builder in BUILDERS}
    assert built == {name for family in FAMILIES for name in family.MODEL_TYPES}
