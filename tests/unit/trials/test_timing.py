"""What a timing consists of. Nothing here says how fast anything is."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
import torch

from rampipe.attention.decode_dense import packed_decode
from rampipe.attention.hybrid import hybrid_attention
from rampipe.attention.split_cache import PreallocatedCache
from rampipe.config import EvidenceConfig, SpeedConfig
from rampipe.errors import ConfigError, ModelError, SampleError
from rampipe.models.images import decode_images
from rampipe.models.prompts import encode
from rampipe.tables.arms import Arm
from rampipe.tables.timings import timings_table
from rampipe.trials import timing
from rampipe.trials.restrict import hybrid_plan_of
from rampipe.trials.timing import time_arm
from rampipe.trials.timing_memory import peak_bytes, reset_peak
from rampipe.trials.timing_pass import run_pass, time_decodes
from rampipe.trials.timing_prompt import stretch
from rampipe.types import HeadId

SETTINGS = {"sink_tokens": 4, "window_tokens": 16, "keep_text": True, "dense_below_tokens": 0}
CONFIG = SpeedConfig(context_tokens=(96,), new_tokens=3, warmups=1, repeats=4)
EVERY_HEAD = tuple(HeadId(layer, head) for layer in range(2) for head in range(16))
SOME_HEADS = (HeadId(0, 3), HeadId(1, 8))


def arm(heads: tuple[HeadId, ...], arm_id: str = "top-10") -> Arm:
    return Arm(
        arm_id, "top", "keep", "hybrid", "all", "query_head", "overall", 0.1, None, None, len(heads), 0.1, None, heads
    )


@pytest.fixture(scope="module")
def prompt(replica, samples):
    images = decode_images(samples[0], max_pixels=10**6)
    return encode(replica, samples[0], images, answer="2 5", evidence=EvidenceConfig())


@pytest.fixture(scope="module")
def long_prompt(prompt):
    return stretch(prompt, context_tokens=96)


def timed(replica, long_prompt, heads=SOME_HEADS, **settings):
    return time_arm(replica, arm(heads), settings=SETTINGS | settings, config=CONFIG, prompt=long_prompt)


def test_header_and_question_stay_and_visual_tokens_fill_the_rest(prompt, long_prompt, replica):
    stop = prompt.num_prompt_tokens
    first, last = int(prompt.visual_positions[0]), int(prompt.visual_positions[-1]) + 1
    num_behind = stop - last
    assert long_prompt.context_tokens == 96 != stop
    assert torch.equal(long_prompt.input_ids[:first], prompt.input_ids[:first])
    assert torch.equal(long_prompt.input_ids[-num_behind:], prompt.input_ids[last:stop])
    assert (long_prompt.input_ids[first:-num_behind] == replica.visual_token_ids[0]).all()
    assert long_prompt.text_keys.tolist() == [True] * first + [False] * (96 - first - num_behind) + [True] * num_behind


def test_a_prompt_can_be_cut_but_not_below_its_text(prompt):
    num_text = prompt.num_prompt_tokens - len(prompt.visual_positions)
    assert stretch(prompt, context_tokens=num_text + 1).context_tokens == num_text + 1
    with pytest.raises(SampleError, match="Raise speed") as caught:
        stretch(prompt, context_tokens=num_text)
    assert caught.value.code == "context_too_short"


def test_text_alone_is_repeated_and_stays_text(prompt):
    nothing = {name: getattr(prompt, name)[:0] for name in ("visual_positions", "token_boxes", "token_frames")}
    text = replace(prompt, **nothing)
    found = stretch(text, context_tokens=2 * prompt.num_prompt_tokens)
    assert found.text_keys.all()
    assert torch.equal(found.input_ids[prompt.num_prompt_tokens :], prompt.input_ids[: prompt.num_prompt_tokens])


def test_rows_and_positive_times(replica, long_prompt):
    found = timed(replica, long_prompt)
    table = timings_table([found])
    assert table.num_rows == CONFIG.repeats
    for row in table.to_pylist():
        assert (row["arm_id"], row["context_tokens"], row["num_new_tokens"]) == ("top-10", 96, 3)
        assert min(row[name] for name in ("prefill_s", "dense_prefill_s", "decode_s", "dense_decode_s")) > 0
    assert sorted(repetition.dense_first for repetition in found.repetitions) == [False, False, True, True]
    assert gc.isenabled()


def test_the_order_is_drawn_for_each_arm_and_length():
    orders = {tuple(timing._drawn_order(6, seed=f"arm{number}@64")) for number in range(20)}
    assert len(orders) > 5
    assert timing._drawn_order(6, seed="arm@64") == timing._drawn_order(6, seed="arm@64")
    assert {timing._drawn_order(1, seed=f"arm{number}@64")[0] for number in range(20)} == {True, False}


@pytest.mark.parametrize("keep_text", [True, False])
@pytest.mark.parametrize("heads", [(), SOME_HEADS, EVERY_HEAD])
def test_the_cache_is_as_large_as_predicted(replica, long_prompt, heads, keep_text):
    found = timed(replica, long_prompt, heads, keep_text=keep_text)
    dense_bytes = 2 * (96 + 3) * 2 * 8 * 12 * 4  # key and value, tokens, layers, kv_heads, dimensions, float32
    for repetition in found.repetitions:
        assert repetition.cache_bytes == found.predicted_cache_bytes
        assert repetition.dense_cache_bytes == dense_bytes
    assert (found.predicted_cache_bytes < dense_bytes) == (heads != EVERY_HEAD)


def last_logits(replica, long_prompt, heads):
    plan = hybrid_plan_of(arm(heads), SETTINGS)
    with hybrid_attention(replica.model, plan, text_keys=long_prompt.text_keys[None]) as hybrid:
        cache = hybrid.new_cache(capacity_tokens=99)
        return run_pass(replica.model, long_prompt.input_ids[None], cache, new_tokens=3).logits


def test_both_sides_do_the_same_work_where_all_heads_are_full(replica, long_prompt):
    text = replica.model.config.get_text_config(decoder=True)
    dense = run_pass(
        replica.model, long_prompt.input_ids[None], PreallocatedCache(text, capacity_tokens=99), new_tokens=3
    )
    assert torch.equal(last_logits(replica, long_prompt, EVERY_HEAD), dense.logits)
    assert not torch.equal(last_logits(replica, long_prompt, SOME_HEADS), dense.logits)
    packed = run_pass(
        replica.model,
        long_prompt.input_ids[None],
        PreallocatedCache(text, capacity_tokens=99),
        new_tokens=3,
        decode_within=lambda: packed_decode(replica.model),
    )
    assert torch.allclose(packed.logits, dense.logits, atol=1e-4)


def test_every_way_of_decoding_goes_on_behind_the_others(replica, long_prompt):
    text = replica.model.config.get_text_config(decoder=True)
    cache = PreallocatedCache(text, capacity_tokens=102)
    ways = [lambda: packed_decode(replica.model)] * 2
    found = time_decodes(replica.model, long_prompt.input_ids[None], cache, new_tokens=3, ways=ways)
    assert len(found) == 2
    assert cache.get_seq_length() == 102
    with pytest.raises(ModelError, match="102"):
        time_decodes(replica.model, long_prompt.input_ids[None], cache, new_tokens=1, ways=ways)


def test_without_room_on_the_device_it_is_an_error_row(replica, long_prompt, monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(timing, "run_pass", full)
    with pytest.raises(SampleError, match="top-10 at 96 tokens") as caught:
        timed(replica, long_prompt)
    assert (caught.value.stage, caught.value.code) == ("forward", "out_of_memory")


def test_an_arm_that_silences_is_refused(replica, long_prompt):
    silencing = replace(arm(SOME_HEADS), kind="ablate", mode="zero")
    with pytest.raises(ConfigError, match="top-10"):
        time_arm(replica, silencing, settings=SETTINGS, config=CONFIG, prompt=long_prompt)


def test_the_peak_sees_memory_that_is_gone_again():
    device = torch.device("cpu")
    if not reset_peak(device):
        pytest.skip("this system does not let a process reset the peak of its resident set")
    before = peak_bytes(device)
    torch.ones(32 << 20, dtype=torch.uint8).sum()
    assert peak_bytes(device) - before > 24 << 20
    assert reset_peak(device)
    assert peak_bytes(device) - before < 24 << 20
