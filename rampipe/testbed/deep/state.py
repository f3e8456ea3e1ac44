"""The state of a training stage on disk: one safetensors file, its numbers as JSON in the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

NUMBERS = "numbers"
"""Name of the JSON in the metadata, whose values have to be text."""


def write_state(path: Path, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """Writes the file whole or not at all. numbers: whatever JSON holds; floats and long integers come back exactly."""
    partial = path.with_suffix(".partial")
    save_file(dict(tensors), partial, metadata={NUMBERS: json.dumps(numbers)})
    partial.replace(path)


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and numbers of a file that `write_state` wrote. The tensors are copies, not views of the file."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()[NUMBERS])


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def optimizer_tensors(optimizer: Optimizer) -> Iterator[tuple[str, Tensor]]:
    """What an optimizer remembers of each weight, as `<index of the weight>.<name>`: momenta and counts of steps."""
    for index, remembered in optimizer.state_dict()["state"].items():
        for name, tensor in remembered.items():
            yield f"{index}.{name}", tensor


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Gives an optimizer of the same weights its memory back. Rates and the like stay as it was built with."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, field = name.partition(".")
        state.setdefault(int(index), {})[field] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
