"""Ways to the statistics of selected rows, one a file: adding one is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import torch

from rampipe.attention.backends.backend import Backend
from rampipe.attention.backends.deferred import Deferred
from rampipe.attention.backends.dense import Dense
from rampipe.attention.backends.lse import LogSum

__all__ = ["BACKENDS", "Backend", "BackendName", "choose_backend"]

BackendName = Literal["auto", "dense", "lse", "deferred"]

BACKENDS: Mapping[str, type[Backend]] = MappingProxyType({"dense": Dense, "lse": LogSum, "deferred": Deferred})

DEFERRED_KEYS = 4096
"""Up to so many keys a GPU waits for launches more than it computes: an estimate, not measured on one."""


def choose_backend(name: BackendName, *, device: torch.device, num_keys: int) -> type[Backend]:
    """`auto`: deferred on a GPU for short prompts, dense elsewhere. Never lse, which gives fewer statistics."""
    if name != "auto":
        return BACKENDS[name]
    return Deferred if device.type == "cuda" and num_keys <= DEFERRED_KEYS else Dense
