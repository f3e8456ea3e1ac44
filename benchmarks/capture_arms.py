"""What is timed: a plain prefill, captures of it, and what else one could do for the same numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from capture_setup import clock, make_trials
from transformers import DynamicCache

from rampipe.attention.backends import Backend, BackendName
from rampipe.attention.capture import Recorder, capture_attention
from rampipe.attention.interface import observe_attention
from rampipe.config import CaptureConfig
from rampipe.errors import SampleError
from rampipe.models.prompts import collate
from rampipe.models.replica import Replica
from rampipe.trials import shared
from rampipe.trials.observe import observe
from rampipe.trials.statistics import plan_rows, read_groups
from rampipe.types import REGIONS

MASSES = "masses alone"
Arm = Callable[[], float | None]
"""Runs once. Returns the seconds within that were spent on statistics, where they can be told from the model's."""


@dataclass(frozen=True)
class Bench:
    """One model, and prompts of one length whose last `num_rows` tokens are the question."""

    replica: Replica
    num_tokens: int
    num_rows: int

    def arm(self, name: str) -> Arm:
        """By name, or `<n> questions of <rows>`: calibrated ones on one context, all statistics or masses alone."""
        asked = re.match(r"(\d+) questions of (\d+)", name)
        if asked:
            bench = replace(self, num_rows=int(asked[2]))
            return bench.observed(int(asked[1]), backend="lse" if name.endswith(MASSES) else "auto")
        return {
            "plain": self.plain,
            "all statistics": self.captured("auto"),
            "within the forward": self.captured("dense"),
            MASSES: self.captured("lse"),
            "calibrated": self.observed(1),
            "calibrated, ended early": self.observed(1, to_the_end=False),
            "calibrated, unshared": self.observed(1, share=False),
            "output_attentions": self.output_attentions,
            "per-layer hook": self.hook,
            "eager suffix": self.eager_suffix,
            "cached queries": self.cached_queries,
        }[name]

    def plain(self) -> None:
        """A prefill that fills a cache, without the head over the vocabulary."""
        with torch.inference_mode():
            self.replica.model.base_model(self._ids(), use_cache=True, past_key_values=self._cache())

    def captured(self, backend: BackendName) -> Arm:
        """The same prefill, with statistics of every layer: the whole forward runs, as it does without."""
        prompts = [make_trials(self.num_tokens, 1, self.num_rows, calibrate=False)[0].prompt]
        batch = collate(self.replica, prompts)
        plan = plan_rows(prompts, [("question",)], batch.offsets)

        def run() -> float:
            model = self.replica.model
            with (
                torch.inference_mode(),
                metered(self.replica.device) as spent,
                capture_attention(model, rows=plan.rows, regions=batch.regions, backend=backend) as recorder,
            ):
                model.base_model(**batch.inputs, use_cache=True, past_key_values=self._cache())
            start = clock()
            (found,) = read_groups(recorder, plan, prompts, model=model)
            if isinstance(found, SampleError):
                raise found
            return sum(spent) + clock() - start

        return run

    def observed(
        self, number: int, *, share: bool = True, to_the_end: bool = True, backend: BackendName = "auto"
    ) -> Arm:
        """`observe` on so many calibrated questions about one context; the seconds beside its pass over that context.

        to_the_end: as if a run did not end with the last layer's attention, which saves most of one layer: of the few
        layers here that is a large share, and would flatter us.
        """
        trials = make_trials(self.num_tokens, number, self.num_rows, calibrate=True)
        config = CaptureConfig(share_context=share, queries=("question",), backend=backend)

        def run() -> float:
            start = clock()
            with unstopped() if to_the_end else nullcontext(), starts_of_passes(self.replica) as starts:
                results = observe(self.replica, trials, config=config)
            failed = [found for found in results if isinstance(found, SampleError)]
            if failed:
                raise failed[0]
            of_context, of_questions, *_ = starts
            return clock() - start - (of_questions - of_context)

        return run

    def output_attentions(self) -> None:
        """All matrices, as transformers gives them."""
        with torch.inference_mode(), self._eager():
            found = self.replica.model.base_model(self._ids(), use_cache=False, output_attentions=True).attentions
        self._mass(torch.stack([layer[0, :, -self.num_rows :] for layer in found]))

    def hook(self) -> None:
        """One matrix at a time: a hook behind each attention keeps the sums."""
        sums: list[torch.Tensor] = []

        def reduce(module: object, given: object, output: tuple[torch.Tensor, torch.Tensor]) -> None:
            del module, given
            sums.append(self._mass(output[1][0, :, -self.num_rows :]))

        layers = self.replica.model.get_decoder().layers
        handles = [layer.self_attn.register_forward_hook(reduce) for layer in layers]
        try:
            with torch.inference_mode(), self._eager():
                self.replica.model.base_model(self._ids(), use_cache=False)
        finally:
            for handle in handles:
                handle.remove()

    def eager_suffix(self) -> None:
        """The honest rival: a plain prefill of the context, then an eager forward of the question over its cache."""
        ids, cache, start = self._ids(), self._cache(), self.num_tokens - self.num_rows
        model = self.replica.model.base_model
        with torch.inference_mode():
            model(ids[:, :start], use_cache=True, past_key_values=cache)
            with self._eager():
                found = model(ids[:, start:], use_cache=True, past_key_values=cache, output_attentions=True).attentions
        self._mass(torch.stack([layer[0] for layer in found]))

    def cached_queries(self) -> float:
        """As QRHead: queries of the question are kept, and their whole softmax is computed after the pass."""
        kept: list[torch.Tensor] = []
        cache = self._cache()
        with torch.inference_mode(), keep_queries(self.replica.model, self.num_rows, kept):
            self.replica.model.base_model(self._ids(), use_cache=True, past_key_values=cache)
        start = clock()
        future = torch.ones(self.num_rows, self.num_rows, dtype=torch.bool, device=self.replica.device).triu(1)
        with torch.inference_mode():
            for query, layer in zip(kept, cache.layers, strict=True):
                keys = layer.keys.repeat_interleave(query.shape[1] // layer.keys.shape[1], dim=1)
                logits = query @ keys.transpose(2, 3) / query.shape[-1] ** 0.5
                logits[..., -self.num_rows :].masked_fill_(future, torch.finfo(logits.dtype).min)
                self._mass(logits.softmax(dim=-1, dtype=torch.float32)[0])
        return clock() - start

    def _mass(self, shares: torch.Tensor) -> torch.Tensor:
        """What the rivals are asked for: evidence mass of each row and head, no more."""
        prompt = make_trials(self.num_tokens, 1, self.num_rows, calibrate=False)[0].prompt
        return shares[..., prompt.regions == REGIONS.index("evidence")].sum(dim=-1)

    def _ids(self) -> torch.Tensor:
        prompt = make_trials(self.num_tokens, 1, self.num_rows, calibrate=False)[0].prompt
        return prompt.input_ids[None].to(self.replica.device)

    def _cache(self) -> DynamicCache:
        return DynamicCache(config=self.replica.model.config.get_text_config(decoder=True))

    @contextmanager
    def _eager(self) -> Generator[None]:
        self.replica.model.set_attn_implementation("eager")
        try:
            yield
        finally:
            self.replica.model.set_attn_implementation("sdpa")


@contextmanager
def metered(device: torch.device) -> Generator[list[float]]:
    """Seconds of every call of the recorder: what a forward spends on statistics, free of the forward's own noise."""
    spent: list[float] = []

    def timed(call: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: object) -> None:
            synchronize(device)
            start = clock()
            call(*arguments)
            synchronize(device)
            spent.append(clock() - start)

        return run

    before = Recorder.observe, Recorder.finish
    Recorder.observe, Recorder.finish = timed(before[0]), timed(before[1])
    try:
        yield spent
    finally:
        Recorder.observe, Recorder.finish = before


@contextmanager
def starts_of_passes(replica: Replica) -> Generator[list[float]]:
    """Filled with the clock at each forward's beginning."""
    starts: list[float] = []

    def note(*given: object) -> None:
        del given
        synchronize(replica.device)
        starts.append(clock())

    handle = replica.model.base_model.register_forward_pre_hook(note)
    try:
        yield starts
    finally:
        handle.remove()


@contextmanager
def unstopped() -> Generator[None]:
    """Forwards of `observe` run to their end."""

    def never(recorder: Recorder, backend: Backend, *, wanted: Collection[int] | None, last: int | None) -> None:
        del last
        start(recorder, backend, wanted=wanted)

    start, stop = Recorder.__init__, shared.stop_after
    Recorder.__init__, shared.stop_after = never, lambda model, layer: nullcontext()
    try:
        yield
    finally:
        Recorder.__init__, shared.stop_after = start, stop


@contextmanager
def keep_queries(model: torch.nn.Module, num_rows: int, kept: list[torch.Tensor]) -> Generator[None]:
    """Queries of the last rows of every layer, after rotary."""
    with observe_attention(model.get_decoder(), lambda module, call: kept.append(call.query[:, :, -num_rows:].clone())):
        yield


def synchronize(device: torch.device) -> None:
    """A GPU's work is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
