"""One prompt read and some tokens decoded after it, with a clock and a look at the memory."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rampipe.attention.split_cache import PreallocatedCache, SplitCache, num_cache_bytes
from rampipe.trials.timing_memory import peak_bytes, reset_peak

Ids = Int[Tensor, "1 token"]
Logits = Float[Tensor, "1 vocabulary"]
Within = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Pass:
    """logits: after the last token. peak_bytes: null where it cannot be measured."""

    prefill_s: float
    decode_s: float
    peak_bytes: int | None
    cache_bytes: int
    logits: Logits


@torch.inference_mode()
def run_pass(
    model: Any,
    input_ids: Ids,
    cache: PreallocatedCache | SplitCache,
    *,
    new_tokens: int,
    decode_within: Within = nullcontext,
) -> Pass:
    """Fill the empty cache with the prompt, then decode greedily."""
    with _undisturbed():
        has_peak = reset_peak(input_ids.device)
        logits, prefill_s = timed(lambda: prefill(model, input_ids, cache), input_ids.device)
        with decode_within():
            logits, decode_s = timed(lambda: decode(model, logits, cache, new_tokens=new_tokens), input_ids.device)
        peak = peak_bytes(input_ids.device) if has_peak else None
    return Pass(prefill_s, decode_s, peak, num_cache_bytes(cache), logits)


@torch.inference_mode()
def time_decodes(
    model: Any, input_ids: Ids, cache: PreallocatedCache, *, new_tokens: int, ways: Sequence[Within]
) -> list[float]:
    """Seconds of `new_tokens` tokens in each way, one after another behind one prompt."""
    found = list[float]()
    with _undisturbed():
        logits = prefill(model, input_ids, cache)
        for within in ways:
            with within():
                logits, seconds = timed(
                    lambda last=logits: decode(model, last, cache, new_tokens=new_tokens), input_ids.device
                )
            found.append(seconds)
    return found


def prefill(model: Any, input_ids: Ids, cache: Any) -> Logits:
    """The decoder over the whole prompt, and the output layer over its last token."""
    states = model.get_decoder()(input_ids=input_ids, past_key_values=cache, use_cache=True).last_hidden_state
    return model.get_output_embeddings()(states[:, -1])


def decode(model: Any, logits: Logits, cache: Any, *, new_tokens: int) -> Logits:
    """One token at a time, always the likeliest."""
    for _ in range(new_tokens):
        logits = prefill(model, logits.argmax(dim=-1, keepdim=True), cache)
    return logits


def timed(function: Callable[[], Logits], device: torch.device) -> tuple[Logits, float]:
    """What a function returns, and the seconds until the device, or every GPU, has done all of it."""
    _wait(device)
    start_s = time.perf_counter()
    result = function()
    _wait(device)
    return result, time.perf_counter() - start_s


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        for gpu in range(torch.cuda.device_count()):
            torch.cuda.synchronize(gpu)


@contextmanager
def settled_memory() -> Generator[None]:
    """What lives already is left out of the collections before each pass, which take 0.3 s each otherwise."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _undisturbed() -> Generator[None]:
    """Garbage is collected before, and not within."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
