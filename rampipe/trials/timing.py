"""An arm against dense attention by the clock, in turns in one process: every figure is a ratio to its neighbour."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from rampipe.attention.decode_dense import packed_decode
from rampipe.attention.hybrid import HybridAttention, hybrid_attention
from rampipe.attention.hybrid_plan import CacheSize, HybridPlan, predicted_cache_bytes
from rampipe.attention.split_cache import PreallocatedCache
from rampipe.config import SpeedConfig
from rampipe.errors import SampleError
from rampipe.models.replica import Replica
from rampipe.tables.arms import Arm
from rampipe.tables.timings import ArmTimings, Repetition, timing_id
from rampipe.trials.restrict import hybrid_plan_of
from rampipe.trials.timing_pass import Ids, Pass, Within, run_pass, settled_memory, time_decodes
from rampipe.trials.timing_prompt import LongPrompt


def time_arm(
    replica: Replica, arm: Arm, *, settings: Mapping[str, Any], config: SpeedConfig, prompt: LongPrompt
) -> ArmTimings:
    """`config.repeats` repetitions of prefill and `config.new_tokens` tokens, of the arm and of dense attention.

    Only the decoder is timed: the vision tower is the same in every arm and would blur the ratio. The prompt's
    embeddings are those of its tokens. Which side comes first is drawn, as often one as the other. Dense decoding is
    the faster of the library's and `packed_decode` in the warm-ups, the library's without any; its cache is
    preallocated like the arm's. settings: of the arm's plan.
    Raises SampleError of code `out_of_memory` when either side does not fit, ConfigError for an arm that keeps no
    heads, ModelError for a model that cannot be restricted.
    """
    try:
        with settled_memory():
            return _time_arm(_Bench(replica, hybrid_plan_of(arm, settings), config, prompt), arm)
    except torch.OutOfMemoryError as error:
        message = str(error).split(". ", 1)[0][:200]
    # Out of the handler: the exception's traceback holds the tensors that filled the device.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise SampleError(
        f"arm {arm.arm_id} at {prompt.context_tokens} tokens: does not fit on the device ({message}). Use a larger "
        "device or shorter speed.context_tokens. Not timed.",
        stage="forward",
        code="out_of_memory",
    )


def _time_arm(bench: _Bench, arm: Arm) -> ArmTimings:
    baseline = bench.warm_up()
    repetitions = list[Repetition]()
    for dense_first in _drawn_order(bench.config.repeats, seed=timing_id(arm.arm_id, bench.prompt.context_tokens)):
        dense = bench.run_dense(baseline) if dense_first else None
        own = bench.run_arm()
        dense = dense or bench.run_dense(baseline)
        repetitions.append(_repetition(own, dense, dense_first=dense_first))
    return ArmTimings(
        arm_id=arm.arm_id,
        context_tokens=bench.prompt.context_tokens,
        num_new_tokens=bench.config.new_tokens,
        predicted_cache_bytes=bench.predicted_bytes(),
        repetitions=tuple(repetitions),
    )


@dataclass(frozen=True, slots=True)
class _Bench:
    """Both sides, over the same prompt."""

    replica: Replica
    plan: HybridPlan
    config: SpeedConfig
    prompt: LongPrompt

    @property
    def input_ids(self) -> Ids:
        return self.prompt.input_ids[None].to(self.replica.device)

    @property
    def capacity_tokens(self) -> int:
        return self.prompt.context_tokens + self.config.new_tokens

    def warm_up(self) -> Within:
        """Both sides at full length: the first run pays for memory that the process does not have yet. Returns the
        faster way of dense decoding.
        """
        model = self.replica.model
        ways: list[Within] = [nullcontext, lambda: packed_decode(model)]
        spent_s = [0.0 for _ in ways]
        for _ in range(self.config.warmups):
            self.run_arm()
            cache = self._dense_cache(self.prompt.context_tokens + len(ways) * self.config.new_tokens)
            found = time_decodes(model, self.input_ids, cache, new_tokens=self.config.new_tokens, ways=ways)
            spent_s = [total + seconds for total, seconds in zip(spent_s, found, strict=True)]
        return ways[spent_s.index(min(spent_s))]

    def run_arm(self) -> Pass:
        with self._restricted() as hybrid:
            cache = hybrid.new_cache(capacity_tokens=self.capacity_tokens)
            return run_pass(self.replica.model, self.input_ids, cache, new_tokens=self.config.new_tokens)

    def run_dense(self, decode_within: Within = nullcontext) -> Pass:
        cache = self._dense_cache(self.capacity_tokens)
        new_tokens = self.config.new_tokens
        return run_pass(self.replica.model, self.input_ids, cache, new_tokens=new_tokens, decode_within=decode_within)

    def predicted_bytes(self) -> int:
        """Of the arm's cache, from the plan alone."""
        with self._restricted() as hybrid:
            shape, layers, text = hybrid.shape, hybrid.layers, hybrid.config
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        head_bytes = 2 * head_dim * self.replica.model.dtype.itemsize
        num_text = int(self.prompt.text_keys[self.plan.sink_tokens :].sum()) if self.plan.keep_text else 0
        size = CacheSize(self.capacity_tokens, head_bytes=head_bytes)
        return predicted_cache_bytes(self.plan, shape, layers=layers, size=size, num_kept_text=num_text)

    def _dense_cache(self, capacity_tokens: int) -> PreallocatedCache:
        text = self.replica.model.config.get_text_config(decoder=True)
        return PreallocatedCache(text, capacity_tokens=capacity_tokens)

    def _restricted(self) -> AbstractContextManager[HybridAttention]:
        text_keys = self.prompt.text_keys[None] if self.plan.keep_text else None
        return hybrid_attention(self.replica.model, self.plan, text_keys=text_keys)


def _drawn_order(num_repeats: int, *, seed: str) -> list[bool]:
    """Whether dense comes first: half of the times, drawn."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    odd_one = draw.random() < 0.5
    order = [(repeat % 2 == 0) == odd_one for repeat in range(num_repeats)]
    draw.shuffle(order)
    return order


def _repetition(own: Pass, dense: Pass, *, dense_first: bool) -> Repetition:
    return Repetition(
        dense_first=dense_first,
        prefill_s=own.prefill_s,
        dense_prefill_s=dense.prefill_s,
        decode_s=own.decode_s,
        dense_decode_s=dense.decode_s,
        peak_bytes=own.peak_bytes,
        dense_peak_bytes=dense.peak_bytes,
        cache_bytes=own.cache_bytes,
        dense_cache_bytes=dense.cache_bytes,
    )
