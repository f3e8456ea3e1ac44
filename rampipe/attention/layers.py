"""What a capture must hold: every softmax-attention layer of the decoder, finite numbers, masses that sum to 1."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from rampipe.attention.recorder import Recorder
from rampipe.errors import ConfigError, ModelError, SampleError

SOFTMAX_LAYER_TYPES = ("full_attention", "sliding_attention", "chunked_attention")


def expected_layers(model: PreTrainedModel, layers: Collection[int] | None = None) -> list[int]:
    """Indices of the decoder's softmax-attention layers, from its configuration; all layers where it names no types.

    layers: only these. Raises ConfigError when one of them is none, or there is none at all.
    """
    return softmax_layers(model.config.get_text_config(decoder=True), layers)


def softmax_layers(text_config: Any, layers: Collection[int] | None = None) -> list[int]:
    """`expected_layers` from the configuration of the decoder alone."""
    kinds: Sequence[str] = getattr(text_config, "layer_types", None) or ["full_attention"] * (
        text_config.num_hidden_layers
    )
    found = [layer for layer, kind in enumerate(kinds) if kind in SOFTMAX_LAYER_TYPES]
    if layers is None:
        return found
    if not layers or not {*layers} <= {*found}:
        raise ConfigError(
            f"capture.layers = {sorted(layers)}: {text_config.model_type} has softmax attention in layers "
            f"{ranges(found)}; allowed: one or more of them. Leave capture.layers out for all."
        )
    return sorted({*layers})


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers in short: `0-2, 5`."""
    starts = [number for number in numbers if number - 1 not in numbers]
    stops = [number for number in numbers if number + 1 not in numbers]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, stops, strict=True))


def bad_rows(recorder: Recorder, *, tolerance: float = 1e-4) -> Bool[Tensor, " row"]:
    """Rows that are not finite or whose masses do not sum to 1, in any layer or head: not to be counted."""
    return (_misses(recorder) > tolerance).any(dim=1).any(dim=0).cpu()


def check_recorded(
    recorder: Recorder, model: PreTrainedModel, *, tolerance: float = 1e-4, layers: Collection[int] | None = None
) -> None:
    """Raise ModelError when the layers are not those of the configuration, SampleError for the first bad row.

    SampleError codes: `nonfinite`, and `mass_sum` when the masses of a row miss 1 by more than `tolerance` (a padding
    key received attention, so mask and regions disagree). `bad_rows` tells all such rows. layers: those that were asked
    for, by default all.
    """
    expected = expected_layers(model, layers)
    if sorted(recorder.layers) != expected:
        raise ModelError(
            f"{type(model).__name__}: recorded layers {sorted(recorder.layers)}; expected {expected} from its "
            "configuration. Its attention does not go through transformers' registry in all layers."
        )
    misses = _misses(recorder)
    is_bad = misses > tolerance
    if not bool(is_bad.any()):
        return
    layer, head, row = is_bad.nonzero()[0].tolist()
    miss = float(misses[layer, head, row])
    if math.isinf(miss):
        raise SampleError(
            f"row {row}, layer {expected[layer]}, head {head}: statistics are not finite. The forward produced NaN or "
            "infinity (try model.dtype='float32'), or the row sees no key at all. Sample skipped.",
            stage="statistics",
            code="nonfinite",
        )
    raise SampleError(
        f"row {row}, layer {expected[layer]}, head {head}: the masses miss 1 by {miss:.2e}; allowed "
        f"{tolerance:.0e}. A key marked as padding is visible to the row. Sample skipped.",
        stage="statistics",
        code="mass_sum",
    )


def _misses(recorder: Recorder) -> Float[Tensor, "layer head row"]:
    """By how much the masses miss 1, infinity where a statistic is not finite; layers in ascending order."""
    layers = [recorder.layers[layer] for layer in sorted(recorder.layers)]
    device = layers[0].mass.device  # layers may be on several

    def stacked(name: str) -> Tensor:
        return torch.stack([getattr(layer, name).to(device) for layer in layers])

    sums = stacked("mass").sum(dim=-1)
    numbers = sums + stacked("peak_evidence")
    if layers[0].entropy_nats is not None:
        numbers += stacked("entropy_nats")
    return (sums - 1).abs().masked_fill(~numbers.isfinite(), torch.inf)
