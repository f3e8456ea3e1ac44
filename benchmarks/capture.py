"""What reading the heads costs, beside a plain prefill and what else one could do, in turns in one process.

python benchmarks/capture.py --tokens 1024 4096 --threads 2

Text model of Qwen2.5-0.5B's shape with random weights. `eager` is the usual way, output_attentions=True, which holds
every attention matrix; `eager suffix` is the honest rival: a plain prefill of the context, then an eager forward of the
question over its cache. Each figure is the median over repetitions of its time over that of the plain prefill.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import torch
from transformers import DynamicCache, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from rampipe.config import CaptureConfig
from rampipe.errors import SampleError
from rampipe.models import qwen2_vl
from rampipe.models.prompts import Prompt
from rampipe.models.replica import Replica
from rampipe.models.vision import Vision
from rampipe.trials.observe import observe
from rampipe.trials.trial import Trial
from rampipe.types import REGIONS, Sample

EAGER_TOKENS = 4096
"""Longer prompts are not measured with output_attentions: all matrices together would take tens of gigabytes."""


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--question-tokens", type=int, default=16)
    parser.add_argument("--questions", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="on one context")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def build(num_layers: int, device: str) -> Replica:
    """The language model alone does the work: there are no images."""
    text = {
        "vocab_size": 1024,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "max_position_embeddings": 131072,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
    }
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 896, "num_heads": 2, "mlp_ratio": 2}
    torch.manual_seed(0)
    config = Qwen2VLConfig(text_config=text, vision_config=vision, attn_implementation="sdpa")
    model = Qwen2VLForConditionalGeneration(config).to(device, torch.bfloat16).eval()
    return Replica(
        model=model,
        tokenizer=SimpleNamespace(pad_token_id=0),
        family=qwen2_vl,
        vision=Vision(config, None, {}, {}, "<|image_pad|>"),
        device=torch.device(device),
        max_tokens=131072,
        visual_token_ids=(),
        control_tokens=(),
    )


def make_trials(num_tokens: int, num_questions: int, question_tokens: int, *, calibrate: bool) -> list[Trial]:
    """Questions about one context of random tokens, with a tenth of it as evidence."""
    generator = torch.Generator().manual_seed(num_tokens)
    context = torch.randint(0, 1000, (num_tokens - question_tokens,), generator=generator)
    regions = torch.full((len(context),), REGIONS.index("other_text"), dtype=torch.int8)
    regions[len(context) // 2 : len(context) // 2 + len(context) // 10] = REGIONS.index("evidence")

    def prompt(name: str, length: int) -> Prompt:
        ids = torch.cat([context, torch.randint(0, 1000, (length,), generator=generator)])
        asked = torch.full((length,), REGIONS.index("question"), dtype=torch.int8)
        return Prompt(
            sample_id=name,
            input_ids=ids,
            regions=torch.cat([regions, asked]),
            inputs={"mm_token_type_ids": torch.zeros_like(ids)},
            images={},
            question=slice(len(context), len(ids)),
            num_prompt_tokens=len(ids),
            visual_positions=torch.zeros(0, dtype=torch.int64),
            token_boxes=torch.zeros(0, 4, dtype=torch.float64),
            token_frames=torch.zeros(0, 1, dtype=torch.int64),
            flags=(),
        )

    names = [f"question-{number}" for number in range(num_questions)]
    return [
        Trial(
            sample=Sample(name, "random", (), (), "?", (), None, ()),
            context_key="one",
            prompt=prompt(name, question_tokens),
            null_prompt=prompt(name, 8) if calibrate else None,
        )
        for name in names
    ]


class Bench:
    """Everything that is timed about one length."""

    def __init__(self, replica: Replica, num_tokens: int, arguments: argparse.Namespace) -> None:
        self.replica, self.num_tokens, self.arguments = replica, num_tokens, arguments
        self.ids = make_trials(num_tokens, 1, arguments.question_tokens, calibrate=False)[0].prompt.input_ids[None]
        self.ids = self.ids.to(replica.device)

    def arms(self) -> dict[str, Callable[[], object]]:
        """By name; `plain` is what all are compared with."""
        arms: dict[str, Callable[[], object]] = {
            "plain": self.plain,
            "capture": self.capture(1, calibrate=False, share=False),
            "capture, calibrated": self.capture(1, calibrate=True, share=True),
            "capture, calibrated, unshared": self.capture(1, calibrate=True, share=False),
            "eager suffix": self.eager_suffix,
        }
        for number in self.arguments.questions:
            arms[f"{number} calibrated questions"] = self.capture(number, calibrate=True, share=True)
        if self.num_tokens <= EAGER_TOKENS:
            arms["eager"] = self.eager
        return arms

    def plain(self) -> None:
        """A prefill that fills a cache, without the head over the vocabulary."""
        with torch.inference_mode():
            self.replica.model.base_model(self.ids, use_cache=True, past_key_values=self._cache())

    def capture(self, number: int, *, calibrate: bool, share: bool) -> Callable[[], None]:
        """`observe` on so many questions about the context."""
        trials = make_trials(self.num_tokens, number, self.arguments.question_tokens, calibrate=calibrate)
        config = CaptureConfig(share_context=share)

        def run() -> None:
            failed = [found for found in observe(self.replica, trials, config=config) if isinstance(found, SampleError)]
            if failed:
                raise failed[0]

        return run

    def eager(self) -> None:
        """All matrices."""
        self.replica.model.set_attn_implementation("eager")
        try:
            with torch.inference_mode():
                self.replica.model.base_model(self.ids, use_cache=False, output_attentions=True)
        finally:
            self.replica.model.set_attn_implementation("sdpa")

    def eager_suffix(self) -> None:
        """The matrices of the question's rows."""
        cache, start = self._cache(), self.num_tokens - self.arguments.question_tokens
        with torch.inference_mode():
            self.replica.model.base_model(self.ids[:, :start], use_cache=True, past_key_values=cache)
            self.replica.model.set_attn_implementation("eager")
            try:
                self.replica.model.base_model(
                    self.ids[:, start:], use_cache=True, past_key_values=cache, output_attentions=True
                )
            finally:
                self.replica.model.set_attn_implementation("sdpa")

    def _cache(self) -> DynamicCache:
        return DynamicCache(config=self.replica.model.config.get_text_config(decoder=True))


def compare(bench: Bench, repeats: int) -> None:
    """All arms in a drawn order, again and again."""
    arms = bench.arms()
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    order = list(arms)
    for repeat in range(repeats + 1):
        random.Random(repeat).shuffle(order)
        for name in order:
            start = time.perf_counter()
            arms[name]()
            if bench.replica.device.type == "cuda":
                torch.cuda.synchronize()
            if repeat > 0:
                seconds[name].append(time.perf_counter() - start)
    print(f"{bench.num_tokens} tokens, plain prefill {statistics.median(seconds['plain']):.3f} s; times of it:")
    for name in arms:
        ratios = sorted(one / plain for one, plain in zip(seconds[name], seconds["plain"], strict=True))
        if name != "plain":
            print(
                f"    {name:32s} {statistics.median(ratios):6.2f} x  ({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True
            )


def main() -> None:
    """Measure what the command line names."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    replica = build(arguments.layers, arguments.device)
    for num_tokens in arguments.tokens:
        compare(Bench(replica, num_tokens, arguments), arguments.repeats)


if __name__ == "__main__":
    main()
