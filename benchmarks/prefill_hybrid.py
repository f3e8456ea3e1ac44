"""Prefill of a text model, dense causal SDPA against hybrid attention, interleaved in one process.

python benchmarks/prefill_hybrid.py --tokens 16384 --threads 2

Random weights, bfloat16, a cache is filled on both sides. Prints medians, the ratio per repetition, and the bound: what
the ratio would be if restricted pairs of query and key cost what dense pairs cost and nothing else were added.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

TUNABLES = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=20000000000:glibc.malloc.top_pad=268435456"
"""Keep freed memory: by default most of a long prefill outside of attention is page faults, on both sides."""


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[16384])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--full-frac", type=float, nargs="+", default=[0.1], help="share of query heads that stay full")
    parser.add_argument("--sink", type=int, default=64)
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--dense-below", type=int, default=4096, help="tokens of a prompt that is computed densely")
    parser.add_argument("--text-every", type=int, default=0, help="keep every n-th key as text; 0 keeps none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--malloc", choices=["tuned", "default"], default="tuned", help="of both sides")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


@dataclass
class Timings:
    """Seconds of each repetition: the whole prefill, and attention within it."""

    prefill_s: list[float] = field(default_factory=list)
    attention_s: list[float] = field(default_factory=list)


def build(num_layers: int, seed: int):
    """The text model of Qwen2.5-0.5B's shape, with fewer layers and a small vocabulary, which prefill does not feel."""
    import torch
    from transformers import Qwen2Config, Qwen2Model

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=1024,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=num_layers,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=131072,
        attn_implementation="sdpa",
    )
    return Qwen2Model(config).to(torch.bfloat16).eval()


def timed_prefill(model, ids, cache, timings: Timings) -> None:
    """One prefill, with a clock around the registry's attention."""
    import torch
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    attend: Callable = ALL_ATTENTION_FUNCTIONS["sdpa"]
    spent = 0.0

    def clocked(*tensors, **arguments):
        nonlocal spent
        start = time.perf_counter()
        result = attend(*tensors, **arguments)
        spent += time.perf_counter() - start
        return result

    ALL_ATTENTION_FUNCTIONS["sdpa"] = clocked
    try:
        start = time.perf_counter()
        with torch.no_grad():
            model(ids, past_key_values=cache, use_cache=True)
        timings.prefill_s.append(time.perf_counter() - start)
        timings.attention_s.append(spent)
    finally:
        ALL_ATTENTION_FUNCTIONS["sdpa"] = attend


def pair_share(plan, text, num_tokens: int, layers: int, heads: int) -> float:
    """Pairs of query and key under the plan, as a share of all causal ones."""
    if num_tokens < plan.dense_below_tokens:
        return 1.0
    dense = num_tokens * (num_tokens + 1) / 2
    kept = [position < plan.sink_tokens or bool(text[position]) for position in range(num_tokens)]
    restricted, behind = 0, 0
    for row in range(num_tokens):
        left = row - plan.window_tokens
        behind += left >= 0 and kept[left]
        restricted += min(row + 1, plan.window_tokens) + behind
    num_full = len(plan.full_heads)
    return (num_full * dense + (layers * heads - num_full) * restricted) / (layers * heads * dense)


def compare(model, num_tokens: int, full_frac: float, arguments: argparse.Namespace) -> None:
    """Both sides, interleaved, after one warm-up of each at full length."""
    import torch
    from transformers import DynamicCache

    from rampipe.attention.hybrid import hybrid_attention
    from rampipe.attention.hybrid_plan import HybridPlan
    from rampipe.types import HeadId

    num_heads = model.config.num_attention_heads
    every = [HeadId(layer, head) for layer in range(arguments.layers) for head in range(num_heads)]
    full = frozenset(random.Random(arguments.seed).sample(every, round(full_frac * len(every))))
    plan = HybridPlan(
        full,
        arguments.sink,
        arguments.window,
        keep_text=arguments.text_every > 0,
        dense_below_tokens=arguments.dense_below,
    )
    text = torch.zeros(1, num_tokens, dtype=torch.bool)
    if arguments.text_every:
        text[:, :: arguments.text_every] = True
    ids = torch.randint(0, 1024, (1, num_tokens))
    dense, hybrid = Timings(), Timings()
    for repeat in range(arguments.repeats + 1):
        if repeat == 1:
            dense, hybrid = Timings(), Timings()
        timed_prefill(model, ids, DynamicCache(config=model.config), dense)
        with hybrid_attention(model, plan, text_keys=text if plan.keep_text else None) as context:
            timed_prefill(model, ids, context.new_cache(capacity_tokens=num_tokens), hybrid)
    report(dense, hybrid, pair_share(plan, text[0].tolist(), num_tokens, arguments.layers, num_heads))
    per_layer = [sum(head.layer == layer for head in full) for layer in range(arguments.layers)]
    print(f"    {num_tokens} tokens, {full_frac:.0%} full heads {per_layer}, malloc {arguments.malloc}", flush=True)


def report(dense: Timings, hybrid: Timings, share: float) -> None:
    """One line of figures."""
    whole, attention = (statistics.median(part) for part in (dense.prefill_s, dense.attention_s))
    bound = whole / (whole - attention + attention * share)
    ratios = [a / b for a, b in zip(dense.prefill_s, hybrid.prefill_s, strict=True)]
    print(
        f"prefill {statistics.median(ratios):.2f}x (bound {bound:.2f}x; each {' '.join(f'{r:.2f}' for r in ratios)}), "
        f"dense {whole:.2f} s, hybrid {statistics.median(hybrid.prefill_s):.2f} s; "
        f"attention {attention / statistics.median(hybrid.attention_s):.2f}x (bound {1 / share:.2f}x), "
        f"{attention / whole:.0%} of dense"
    )


def main() -> None:
    """Measure what the command line names."""
    arguments = parse()
    if arguments.malloc == "tuned" and os.environ.get("GLIBC_TUNABLES") != TUNABLES:
        os.environ["GLIBC_TUNABLES"] = TUNABLES  # read when a process starts
        os.execv(sys.executable, [sys.executable, *sys.argv])
    import torch

    torch.set_num_threads(arguments.threads)
    model = build(arguments.layers, arguments.seed)
    for num_tokens in arguments.tokens:
        for full_frac in arguments.full_frac:
            compare(model, num_tokens, full_frac, arguments)


if __name__ == "__main__":
    main()
