"""Logits in float32 from queries and keys of any type: exact products, summed in float32."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor


@contextmanager
def exact_products() -> Generator[None]:
    """Within, CPU products of float32 tensors that hold bfloat16 values run on the matrix units for bfloat16.

    A product of two bfloat16 numbers is exact in float32, and sums are kept in float32, so nothing is lost that
    float32 arithmetic would keep; on a Xeon with AMX it takes less than half of the time.
    """
    matmul = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def scaled_logits(
    query: Float[Tensor, "kv_head row dim"],
    key: Float[Tensor, "kv_head key dim"],
    *,
    scaling: float,
    holds_bfloat16: bool,
    out: Float[Tensor, "kv_head row key"],
) -> Float[Tensor, "kv_head row key"]:
    """scaling times query times key, float32, each product as if of float32 numbers.

    query, key: float32, or on a GPU any type. holds_bfloat16: whether all their values are bfloat16 numbers, whatever
    their type. out: float32 memory for the result, which a GPU may leave alone.
    """
    keys = key.transpose(1, 2)
    if query.dtype != torch.float32:
        return torch.bmm(query, keys, out_dtype=torch.float32).mul_(scaling)
    with exact_products() if holds_bfloat16 and not query.is_cuda else nullcontext():
        return torch.baddbmm(out, query, keys, beta=0, alpha=scaling, out=out)
