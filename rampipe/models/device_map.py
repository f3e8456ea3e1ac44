"""Which GPU of a replica holds which part of a model: one after the other computes, each its own layers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import nn

from rampipe.config import ModelConfig
from rampipe.errors import ModelError

DeviceMap = dict[str, int]
"""GPU, as an index among the visible ones, by the name of a module or of a parameter of its own."""


def free_bytes(num_gpus: int) -> list[int]:
    """Of each of the first GPUs that this process sees: Ray shows a replica its own alone.

    Raises ModelError when they are fewer.
    """
    num_seen = torch.cuda.device_count()
    if num_gpus > num_seen:
        raise ModelError(
            f"a replica on {num_gpus} GPUs: this process sees {num_seen}. Set cluster.gpus_per_replica to at most that."
        )
    return [torch.cuda.mem_get_info(gpu)[0] for gpu in range(num_gpus)]


def place_weights(
    model_class: Any, model_config: Any, config: ModelConfig, *, memory_bytes: Sequence[int]
) -> DeviceMap | None:
    """The map of a model that is spread over several GPUs; None where it is on one device.

    model_class: of transformers' `AutoModel...`. memory_bytes: free, of each GPU; empty on a CPU, which has no plan.
    Raises ModelError when the weights do not fit.
    """
    if not memory_bytes:
        return None
    config_of_sizes = copy.deepcopy(model_config)  # which is written to
    options = {"dtype": getattr(torch, config.dtype), "attn_implementation": "eager", "trust_remote_code": False}
    with torch.device("meta"):
        model = model_class.from_config(config_of_sizes, **options)
    device_map = plan_device_map(model, memory_bytes=memory_bytes)
    return device_map if len({*device_map.values()}) > 1 else None


def plan_device_map(model: Any, *, memory_bytes: Sequence[int]) -> DeviceMap:
    """Vision tower and embeddings on the first GPU, the decoder's layers in their order, norm and output on the last.

    The fullest GPU holds as little as can be. model: may be on `meta`; its types and shapes count. memory_bytes: free,
    of each GPU. An output layer tied to the embeddings stays with them.
    Raises ModelError with the bytes needed and there when the weights do not fit.
    """
    layers, last = _layers(model), _last_parts(model)
    names = dict.fromkeys(_parts(model, {*layers, *last}))
    sizes = _num_bytes(model, names)
    first = [name for name in names if name not in layers and name not in last]
    num_gpus = len(memory_bytes)
    ends = (sum(sizes[name] for name in first), sum(sizes[name] for name in last))
    of_layers = _balanced([sizes[name] for name in layers], ends, memory_bytes)
    if of_layers is None:
        raise ModelError(
            f"weights of {type(model).__name__} need {_shown(sum(sizes.values()))} in {model.dtype}, its "
            f"{num_gpus} GPUs have {' + '.join(map(_shown, memory_bytes))} free, and a layer is not cut. Raise "
            "cluster.gpus_per_replica, or take GPUs with more memory, model.dtype=bfloat16 or a smaller model."
        )
    return {**dict.fromkeys(first, 0), **dict(zip(layers, of_layers, strict=True)), **dict.fromkeys(last, num_gpus - 1)}


def _layers(model: Any) -> list[str]:
    """Names of the decoder's layers in their order."""
    stack = model.get_decoder().layers
    prefix = next(name for name, module in model.named_modules() if module is stack)
    return [f"{prefix}.{index}" for index in range(len(stack))]


def _last_parts(model: Any) -> list[str]:
    """Names of what the states pass after the layers: the decoder's norm, and the output layer unless it is tied."""
    output, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    is_tied = output is None or getattr(output, "weight", None) is embeddings.weight
    after = [getattr(model.get_decoder(), "norm", None), None if is_tied else output]
    return [name for name, module in model.named_modules() if any(module is part for part in after)]


def _parts(module: nn.Module, chosen: set[str], prefix: str = "") -> Iterator[str]:
    """Names that cover every weight once: the chosen modules, and around them the largest without a chosen one."""
    yield from (prefix + name for name, _ in module.named_parameters(recurse=False))
    yield from (prefix + name for name, _ in module.named_buffers(recurse=False))
    for name, child in module.named_children():
        path = prefix + name
        if path not in chosen and any(other.startswith(path + ".") for other in chosen):
            yield from _parts(child, chosen, path + ".")
        else:
            yield path


def _num_bytes(model: nn.Module, names: Sequence[str] | dict[str, None]) -> dict[str, int]:
    """Of each part; what is tied is counted once, where it comes first."""
    sizes = dict.fromkeys(names, 0)
    seen = set[int]()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        pieces = list(accumulate(name.split("."), lambda head, tail: f"{head}.{tail}"))
        part = next(piece for piece in pieces if piece in sizes)
        if id(tensor) not in seen:
            sizes[part] += tensor.numel() * tensor.element_size()
        seen.add(id(tensor))
    return sizes


def _balanced(sizes: Sequence[int], ends: tuple[int, int], memory_bytes: Sequence[int]) -> list[int] | None:
    """GPU of each layer, with the smallest possible maximum; None where nothing fits.

    ends: bytes that the first and the last GPU hold besides.
    """
    low, high = 0, sum(sizes) + sum(ends)
    if _filled(sizes, ends, memory_bytes) is None:
        return None
    while low < high:
        middle = (low + high) // 2
        if _filled(sizes, ends, [min(middle, memory) for memory in memory_bytes]) is None:
            low = middle + 1
        else:
            high = middle
    return _filled(sizes, ends, [min(low, memory) for memory in memory_bytes])


def _filled(sizes: Sequence[int], ends: tuple[int, int], limits: Sequence[int]) -> list[int] | None:
    """Each GPU takes as many layers as it may, in order."""
    used = [0] * len(limits)
    used[0] += ends[0]
    used[-1] += ends[1]
    if used[0] > limits[0] or used[-1] > limits[-1]:
        return None
    found = list[int]()
    gpu = 0
    for size in sizes:
        while used[gpu] + size > limits[gpu]:
            gpu += 1
            if gpu == len(limits):
                return None
        used[gpu] += size
        found.append(gpu)
    return found


def _shown(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.3g} GB"
