"""Silence heads of any transformers decoder for any number of forwards, `generate` included.

with silence_heads(model, Silence(frozenset({HeadId(12, 3)}))):
    model.generate(**inputs)
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from rampipe.attention.interface import implementations, installed, refuse_when_hidden
from rampipe.attention.positions import QueryPositions
from rampipe.attention.projections import attention_modules, attention_of, count_heads, output_projection
from rampipe.attention.restriction import RestrictedAttention
from rampipe.attention.silence import HeadMeans, Silence, SilenceMode, SilencePositions
from rampipe.errors import ConfigError, ModelError

__all__ = ["HeadMeans", "Silence", "SilenceMode", "SilencePositions", "silence_heads"]


class HeadReplacement:
    """Forward pre-hook of an output projection: the slices of silenced heads become a constant, 0 or their mean."""

    def __init__(
        self, layer: int, *, heads: list[list[int]], shape: tuple[int, int], positions: QueryPositions
    ) -> None:
        self.layer = layer
        self.positions = positions
        self.constant: Float[Tensor, "head dim"] = torch.zeros(shape)
        self.mask: Bool[Tensor, "row_or_one head"] = torch.zeros(len(heads), shape[0], dtype=torch.bool)
        for row, chosen in enumerate(heads):
            self.mask[row, chosen] = True

    def __call__(self, projection: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """The arguments with slices replaced; None, which leaves them alone, when no row of this forward is meant."""
        if not arguments or arguments[0].dim() != 3:
            raise ModelError(
                f"layer {self.layer}: {type(projection).__name__} is not called with one tensor [batch, query, width]; "
                "heads cannot be told apart. This model cannot be silenced by mode zero or mean."
            )
        inputs: Float[Tensor, "batch query width"] = arguments[0]
        num_rows, num_queries, _ = inputs.shape
        starts = self.positions.starts(num_rows, num_queries)
        self.positions.ran.add(self.layer)
        if min(starts) >= num_queries:
            return None
        self.mask = self.mask.to(inputs.device)
        self.constant = self.constant.to(inputs)
        first = torch.tensor(starts, device=inputs.device)
        is_meant = torch.arange(num_queries, device=inputs.device) >= first[:, None]
        chosen = is_meant[:, :, None, None] & self.mask[:, None, :, None]
        # A choice, not a product: 0 x NaN is NaN, and a removed head must not reach the sum.
        replaced = torch.where(chosen, self.constant, inputs.unflatten(-1, self.constant.shape))
        return (replaced.flatten(-2), *arguments[1:])


@contextmanager
def silence_heads(model: PreTrainedModel, silence: Silence) -> Generator[None]:
    """Run every forward of `model` without the heads of `silence` while the context lasts.

    Weights are never touched; hooks and the attention registry are as before afterwards, also when the body raises.
    A capture inside the context reads the silenced forward: what each head, silenced ones included, looks at given
    hidden states that lack them.
    Raises ConfigError for heads that the model does not have or a batch of another size than `silence` names,
    ModelError for a model that is silenced already, whose heads cannot be told apart, or that ran past the hooks.
    """
    decoder = model.get_decoder()
    _refuse_nesting(decoder)
    positions = QueryPositions(silence.first_positions, num_rows=silence.num_rows)
    layers = _layers(model, silence)
    with ExitStack() as stack:
        stack.callback(decoder.register_forward_pre_hook(positions.before_forward, with_kwargs=True).remove)
        stack.callback(decoder.register_forward_hook(positions.after_forward).remove)
        if silence.mode in ("zero", "mean"):
            for layer, attention in layers.items():
                projection, replacement = _replacement(layer, attention, silence, positions)
                stack.callback(projection.register_forward_pre_hook(replacement).remove)
        elif layers:
            refuse_when_hidden(f"silence_heads with mode {silence.mode!r}", "the heads would see every other key again")
            entries = [
                RestrictedAttention(name, layers=layers, silence=silence, positions=positions)
                for name in sorted(implementations(decoder))
            ]
            stack.enter_context(installed(entries))
        yield
    missed = sorted(set(layers) - positions.ran) if positions.num_forwards else []
    if missed:
        raise ModelError(
            f"{type(model).__name__}: {positions.num_forwards} forwards ran, but not through the attention of layers "
            f"{missed} as it was found; their heads were not silenced. This model cannot be silenced."
        )


def _layers(model: PreTrainedModel, silence: Silence) -> dict[int, nn.Module]:
    modules = attention_modules(model) if silence.all_heads else {}
    layers: dict[int, nn.Module] = {}
    for head in sorted(silence.all_heads):
        layers[head.layer] = attention = attention_of(model, modules, head.layer)
        num_heads = count_heads(attention)
        if not 0 <= head.head < num_heads:
            raise ConfigError(
                f"head {head} (layer.head): {type(attention).__name__} has heads 0 to {num_heads - 1}. Take heads of a "
                "ranking of this model."
            )
    return layers


def _replacement(
    layer: int, attention: nn.Module, silence: Silence, positions: QueryPositions
) -> tuple[nn.Module, HeadReplacement]:
    projection, dim = output_projection(attention)
    shape = (count_heads(attention), dim)
    replacement = HeadReplacement(layer, heads=silence.heads_of(layer), shape=shape, positions=positions)
    if silence.mode == "mean":
        mean = silence.means.get(layer) if silence.means is not None else None
        if mean is None or tuple(mean.shape) != shape or not bool(mean.isfinite().all()):
            seen = "missing" if mean is None else f"of shape {tuple(mean.shape)}"
            raise ConfigError(
                f"layer {layer}: its head means are {seen}; needed: {shape} (heads, dim), finite. Compute them with "
                "head_means on this model."
            )
        replacement.constant = mean
    return projection, replacement


def _refuse_nesting(decoder: nn.Module) -> None:
    hooks = getattr(decoder, "_forward_pre_hooks", {}).values()
    if any(isinstance(getattr(hook, "__self__", None), QueryPositions) for hook in hooks):
        raise ModelError(
            f"{type(decoder).__name__} is silenced already; allowed: one silence at a time, as the two would mix their "
            "positions. Leave the outer `with silence_heads(...)`, or join both sets of heads."
        )
