"""What a head gives on average, for silencing it by its mean: the mean input of the output projection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from rampipe.attention.projections import attention_modules, count_heads, output_projection
from rampipe.errors import DataError, ModelError

ReferenceBatch = tuple[Mapping[str, Any], Bool[Tensor, "batch query"]]
"""Inputs of one forward, and which of its positions count. Padding must not."""


class _RunningSum:
    """Forward pre-hook of an output projection: adds up its input over the positions that count, in float64."""

    def __init__(self, num_heads: int, head_dim: int) -> None:
        self.total: Float[Tensor, "head dim"] = torch.zeros(num_heads, head_dim, dtype=torch.float64)
        self.num_forwards = 0
        self.rows: Bool[Tensor, "batch query"] = torch.zeros(0, 0, dtype=torch.bool)

    def __call__(self, projection: nn.Module, arguments: tuple[Any, ...]) -> None:
        inputs: Float[Tensor, "batch query width"] = arguments[0]
        if inputs.shape[:2] != self.rows.shape:
            raise DataError(
                f"reference positions of shape {tuple(self.rows.shape)}: the forward has [batch, query] "
                f"{tuple(inputs.shape[:2])}; allowed: the same. Mark positions of the padded batch."
            )
        self.total += inputs[self.rows.to(inputs.device)].double().sum(dim=0).cpu().view_as(self.total)
        self.num_forwards += 1


@torch.no_grad()
def head_means(model: PreTrainedModel, batches: Iterable[ReferenceBatch]) -> dict[int, Float[Tensor, "head dim"]]:
    """Mean over the marked positions of all batches, float32 on the CPU, by layer index; every position weighs 1.

    A dict, not one tensor: layers without softmax attention have no mean, and widths may differ between layers.
    Raises DataError when no position is marked: a mean of nothing is not 0. ModelError when a layer did not run.
    """
    sums: dict[int, _RunningSum] = {}
    num_positions = 0
    num_batches = 0
    with ExitStack() as stack:
        for layer, attention in attention_modules(model).items():
            projection, head_dim = output_projection(attention)
            sums[layer] = _RunningSum(count_heads(attention), head_dim)
            stack.callback(projection.register_forward_pre_hook(sums[layer]).remove)
        for inputs, rows in batches:
            for running in sums.values():
                running.rows = rows
            model(**inputs, use_cache=False)
            num_positions += int(rows.sum())
            num_batches += 1
    if num_positions == 0:
        raise DataError(
            f"reference set of {num_batches} batches: no position is marked; needed: at least one. Mark the positions "
            "to average over."
        )
    missed = [layer for layer, running in sums.items() if running.num_forwards != num_batches]
    if missed or not sums:
        raise ModelError(
            f"{type(model).__name__}: the output projection of layers {missed or 'all'} did not run in each of "
            f"{num_batches} forwards. Its heads have no mean; take another mode."
        )
    return {layer: (running.total / num_positions).float() for layer, running in sums.items()}
