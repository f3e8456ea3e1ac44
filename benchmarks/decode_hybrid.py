"""Decoding over a long prompt, dense against hybrid attention with a split cache, interleaved in one process.

python benchmarks/decode_hybrid.py --tokens 16384 --threads 2

Random weights, bfloat16. Every cache is preallocated: a DynamicCache copies itself at each step and would flatter us.
Two dense arms, as transformers groups heads (a kv_head is read once per query head) and packed (read once, as hybrid
does); ratios are against the faster one. The bound is bytes: weights, keys and values read per token.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from contextlib import AbstractContextManager, nullcontext


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[16384])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--full-kv-heads", type=int, default=1, help="whole groups, in each layer")
    parser.add_argument("--full-frac", type=float, help="share of query heads, scattered; instead of whole groups")
    parser.add_argument("--shape", choices=["qwen3-0.6b", "qwen2.5-0.5b"], default="qwen3-0.6b")
    parser.add_argument("--dense-below", type=int, default=4096, help="tokens of a prompt that is computed densely")
    parser.add_argument("--sink", type=int, default=64)
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="tokens per repetition and arm")
    parser.add_argument("--lm-head", action="store_true", help="with the output layer over 151,936 tokens")
    return parser.parse_args()


SHAPES = {
    "qwen3-0.6b": {"hidden_size": 1024, "intermediate_size": 3072, "num_attention_heads": 16, "num_key_value_heads": 8}
    | {"head_dim": 128},
    "qwen2.5-0.5b": {"hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14, "num_key_value_heads": 2}
    | {"head_dim": 64},
}


def build(shape: str, num_layers: int, *, lm_head: bool):
    """A text model of that shape, with fewer layers."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3Model

    torch.manual_seed(0)
    config = Qwen3Config(
        **SHAPES[shape],
        vocab_size=151936 if lm_head else 1024,
        num_hidden_layers=num_layers,
        max_position_embeddings=131072,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    return (Qwen3ForCausalLM if lm_head else Qwen3Model)(config).to(torch.bfloat16).eval()


def full_heads(config, arguments: argparse.Namespace):
    """Whole groups in each layer, or heads scattered over all layers, which leave few kv_heads without a full one."""
    from rampipe.types import HeadId

    every = [HeadId(layer, head) for layer in range(arguments.layers) for head in range(config.num_attention_heads)]
    if arguments.full_frac is not None:
        return frozenset(random.Random(0).sample(every, round(arguments.full_frac * len(every))))
    group_size = config.num_attention_heads // config.num_key_value_heads
    return frozenset(head for head in every if head.head < group_size * arguments.full_kv_heads)


class Arm:
    """One way to decode, with its own cache."""

    def __init__(self, model, cache, context) -> None:
        self.model, self.cache, self.context = model, cache, context
        self.step_s: list[float] = []

    def forward(self, ids) -> float:
        """Seconds of one forward."""
        import torch

        with torch.no_grad():
            start = time.perf_counter()
            self.model(ids, past_key_values=self.cache, use_cache=True)
            return time.perf_counter() - start


def compare(model, num_tokens: int, arguments: argparse.Namespace) -> None:
    """Prefill each arm, then decode in turns."""
    import torch

    from rampipe.attention.decode_dense import packed_decode
    from rampipe.attention.hybrid import hybrid_attention
    from rampipe.attention.hybrid_plan import CacheSize, HeadShape, HybridPlan, kv_sparsity, predicted_cache_bytes
    from rampipe.attention.split_cache import PreallocatedCache, num_cache_bytes

    capacity = num_tokens + (arguments.repeats + 1) * arguments.steps
    config = model.config
    plan = HybridPlan(
        full_heads(config, arguments),
        arguments.sink,
        arguments.window,
        keep_text=False,
        dense_below_tokens=arguments.dense_below,
    )
    ids = torch.randint(0, 1024, (1, num_tokens))

    def hybrid_context() -> AbstractContextManager:
        return hybrid_attention(model, plan, text_keys=None)

    with hybrid_context() as context:
        split = context.new_cache(capacity_tokens=capacity)
    arms = {
        "dense": Arm(model, PreallocatedCache(model.config, capacity_tokens=capacity), nullcontext),
        "dense packed": Arm(
            model, PreallocatedCache(model.config, capacity_tokens=capacity), lambda: packed_decode(model)
        ),
        "hybrid": Arm(model, split, hybrid_context),
    }
    for repeat in range(-1, arguments.repeats + 1):
        for arm in arms.values():
            with arm.context():
                if repeat == -1:
                    arm.forward(ids)
                    continue
                steps = [arm.forward(ids[:, :1]) for _ in range(arguments.steps)]
                if repeat > 0:
                    arm.step_s.append(statistics.median(steps))
    size = CacheSize(capacity_tokens=capacity, head_bytes=2 * config.head_dim * 2)
    shape = HeadShape(config.num_attention_heads, config.num_key_value_heads)
    predicted = predicted_cache_bytes(plan, shape, layers=range(arguments.layers), size=size)
    sparsity = kv_sparsity(plan, shape, layers=range(arguments.layers))
    report(
        arms,
        weights=sum(p.nbytes for p in model.parameters()),
        caches=(num_cache_bytes(arms["dense"].cache), num_cache_bytes(split)),
        predicted=predicted,
    )
    print(
        f"    {num_tokens} tokens, {arguments.shape}, {arguments.layers} layers, full: "
        f"{1 - sparsity.restricted_head_frac:.1%} of query heads, {1 - sparsity.restricted_kv_head_frac:.1%} of "
        "kv_heads",
        flush=True,
    )


def report(arms: dict[str, Arm], *, weights: int, caches: tuple[int, int], predicted: int) -> None:
    """Figures of all arms."""
    medians = {name: statistics.median(arm.step_s) for name, arm in arms.items()}
    faster = min(("dense", "dense packed"), key=lambda name: medians[name])
    ratios = [a / b for a, b in zip(arms[faster].step_s, arms["hybrid"].step_s, strict=True)]
    bound = (weights + caches[0]) / (weights + caches[1])
    print(
        f"decode {statistics.median(ratios):.2f}x of {faster!r} (bound {bound:.2f}x; each "
        f"{' '.join(f'{ratio:.2f}' for ratio in ratios)}); ms per token: "
        + ", ".join(f"{name} {1000 * value:.1f}" for name, value in medians.items())
    )
    print(f"    cache bytes: dense {caches[0]:,}, hybrid {caches[1]:,}, predicted {predicted:,}")


def main() -> None:
    """Measure what the command line names."""
    arguments = parse()
    import torch

    torch.set_num_threads(arguments.threads)
    model = build(arguments.shape, arguments.layers, lm_head=arguments.lm_head)
    for num_tokens in arguments.tokens:
        compare(model, num_tokens, arguments)


if __name__ == "__main__":
    main()
