"""Prefill of restricted heads by FlexAttention, which skips key blocks that no row of a query block sees. CUDA only.

Tested on a CPU, uncompiled, against the definition; it has never run on a GPU. On a CPU the loop of `windowed.py` is
twice as fast.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rampipe.attention.kept_keys import visible
from rampipe.attention.windowed import WindowRule

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128
"""Rows and keys of a block: what the kernel skips or takes whole. The kernel's own default."""


class FlexPrefill:
    """Attention of whole prompts under window rules; the block mask of a prompt is made once for all layers."""

    def __init__(self, kernel: Callable[..., Any]) -> None:
        self.kernel = kernel
        self._made_for: tuple[Tensor | None, tuple[int, ...]] | None = None
        self._block_mask: BlockMask | None = None

    def attend(
        self,
        query: Float[Tensor, "batch head query dim"],
        key: Float[Tensor, "batch kv_head query dim"],
        value: Float[Tensor, "batch kv_head query value_dim"],
        *,
        rules: list[WindowRule],
        scaling: float,
        mask: Tensor | None,
    ) -> Float[Tensor, "batch query head value_dim"] | None:
        """None where `mask` is more than causality and padding: the loop must do it. Warns, with the reason."""
        key_of_cache = (query.shape[0], query.shape[2], rules[0].window, *(id(rule.kept) for rule in rules))
        if self._made_for is None or self._made_for[0] is not mask or self._made_for[1] != key_of_cache:
            real = real_keys(mask, num_batch=query.shape[0], num_tokens=query.shape[2], device=query.device)
            self._block_mask = None if real is None else block_mask(rules, real)
            self._made_for = (mask, key_of_cache)
            if real is None:
                _warn_loop("the model's own mask is more than causality and padding")
        if self._block_mask is None:
            return None
        is_grouped = query.shape[1] != key.shape[1]
        output = self.kernel(query, key, value, block_mask=self._block_mask, scale=scaling, enable_gqa=is_grouped)
        return output.transpose(1, 2)


def flex_prefill(device: torch.device) -> FlexPrefill | None:
    """For CUDA, compiled; None for a CPU, and, with a warning that gives the reason, for CUDA without Triton."""
    if device.type != "cuda":
        return None
    if find_spec("triton") is None:
        _warn_loop("Triton is not installed, which FlexAttention needs")
        return None
    return FlexPrefill(_compiled_kernel())


@cache
def _compiled_kernel() -> Callable[..., Any]:
    """Compiled once a process, for all contexts."""
    from torch.nn.attention.flex_attention import flex_attention  # brings the compiler along, which takes seconds

    return torch.compile(flex_attention)


def real_keys(
    mask: Tensor | None, *, num_batch: int, num_tokens: int, device: torch.device
) -> Bool[Tensor, "batch key"] | None:
    """Keys that are no padding, when the mask of a whole prompt is causality and padding; None for any other mask."""
    if mask is None:
        return torch.ones(num_batch, num_tokens, dtype=torch.bool, device=device)
    if mask.shape[1] != 1:
        return None
    seen = visible(mask[:, 0]).expand(num_batch, -1, -1)
    real = seen[:, -1]
    causal = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=device).tril()
    is_other = seen != (causal & real[:, None])
    return None if bool((is_other & real[:, :, None]).any()) else real


def block_mask(rules: list[WindowRule], real: Bool[Tensor, "batch key"]) -> BlockMask:
    """Row q of a sequence sees real key j <= q where j > q - window, or j is kept. Made of blocks, not of pairs."""
    from torch.nn.attention.flex_attention import BlockMask

    window, device, num_tokens = rules[0].window, real.device, real.shape[1]
    kept = torch.zeros_like(real)
    for batch, rule in enumerate(rules):
        kept[batch, rule.kept.index[: rule.kept.num_before(num_tokens)]] = True

    num_blocks = -(-num_tokens // BLOCK)
    room = (0, num_blocks * BLOCK - num_tokens)
    in_blocks = [torch.nn.functional.pad(side, room).unflatten(1, (num_blocks, BLOCK)) for side in (real, kept & real)]
    (any_real, all_real), (any_kept, all_kept) = [(side.any(-1)[:, None], side.all(-1)[:, None]) for side in in_blocks]
    row = torch.arange(num_blocks, device=device)[:, None] * BLOCK
    column = torch.arange(num_blocks, device=device) * BLOCK
    is_touched = (column <= row) & any_real & ((column + BLOCK - 1 > row - window) | any_kept)
    is_whole = (column < row) & all_real & ((column > row + BLOCK - 1 - window) | all_kept)
    partial, whole = (_ordered(side[:, None]) for side in (is_touched & ~is_whole, is_whole & is_touched))
    return BlockMask.from_kv_blocks(
        *partial,
        *whole,
        BLOCK_SIZE=BLOCK,
        # A lambda, as the compiler cannot follow a function whose types are checked, which they are in the tests.
        mask_mod=lambda batch, _, query, key: (
            (key <= query) & real[batch, key] & ((key > query - window) | kept[batch, key])
        ),
        seq_lengths=(num_tokens, num_tokens),
    )


def _ordered(blocks: Bool[Tensor, "batch 1 row column"]) -> tuple[Tensor, Tensor]:
    """How many blocks each row of blocks has, and their columns, in front of all others."""
    counts = blocks.sum(dim=-1, dtype=torch.int32)
    columns = torch.argsort(blocks.to(torch.int32), dim=-1, descending=True, stable=True)
    return counts, columns.to(torch.int32).contiguous()


def _warn_loop(reason: str) -> None:
    warnings.warn(
        f"hybrid attention on CUDA: {reason}; the block-sliced loop takes over, with the same results, slower.",
        stacklevel=2,
    )
