"""The state of a stage comes back bit for bit, and a write that fails leaves the last one whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from rampipe.testbed.deep.state import optimizer_tensors, read_state, restore_optimizer, under, write_state


def test_tensors_and_numbers_come_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng([4, 7])
    rng.random(3)
    numbers = {"step": 3, "accuracy": 0.1 + 0.2, "rng": rng.bit_generator.state}
    tensors = {"model.a.weight": torch.randn(3, 5), "optimizer0.0.step": torch.tensor(3.0)}
    write_state(tmp_path / "a.safetensors", tensors, numbers)
    read, said = read_state(tmp_path / "a.safetensors")
    assert said == numbers
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    again = np.random.default_rng(0)
    again.bit_generator.state = said["rng"]
    assert again.random() == rng.random()


def test_a_write_that_fails_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    write_state(path, {"a": torch.ones(2)}, {"step": 1})
    before = path.read_bytes()

    def torn(_tensors: object, partial: Path, **_metadata: object) -> None:
        partial.write_bytes(before[:20])
        raise OSError("disk full")

    monkeypatch.setattr("rampipe.testbed.deep.state.save_file", torn)
    with pytest.raises(OSError, match="disk full"):
        write_state(path, {"a": torch.zeros(2)}, {"step": 2})
    assert path.read_bytes() == before


def test_the_file_is_json_and_numbers_only(tmp_path: Path) -> None:
    write_state(tmp_path / "a.safetensors", {"a": torch.ones(2)}, {"step": 1})
    raw = (tmp_path / "a.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert header["a"]["dtype"] == "F32"
    assert raw[8 + length :] == torch.ones(2).numpy().tobytes()


def steps(optimizer: Optimizer, weight: nn.Parameter, *, count: int) -> None:
    for _ in range(count):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()


def test_an_optimizer_goes_on_only_with_its_memory(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.arange(4.0))
    optimizer = AdamW([weight], lr=0.1)
    steps(optimizer, weight, count=2)
    tensors = {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(optimizer)}
    write_state(tmp_path / "a.safetensors", tensors, {})
    copies = [nn.Parameter(weight.detach().clone()) for _ in range(2)]
    steps(optimizer, weight, count=2)
    resumed, forgetful = (AdamW([copy], lr=0.1) for copy in copies)
    restore_optimizer(resumed, under("optimizer.", read_state(tmp_path / "a.safetensors")[0]))
    steps(resumed, copies[0], count=2)
    steps(forgetful, copies[1], count=2)
    assert torch.equal(copies[0], weight)
    assert not torch.equal(copies[1], weight)
