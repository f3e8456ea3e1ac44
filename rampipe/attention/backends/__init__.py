"""Ways to the statistics of selected rows, one a file: adding one is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from rampipe.attention.backends.backend import Backend
from rampipe.attention.backends.deferred import Deferred
from rampipe.attention.backends.dense import Dense
from rampipe.attention.backends.lse import LogSum

__all__ = ["BACKENDS", "Backend", "BackendName", "choose_backend"]

BackendName = Literal["auto", "dense", "lse", "deferred"]

BACKENDS: Mapping[str, type[Backend]] = MappingProxyType({"dense": Dense, "lse": LogSum, "deferred": Deferred})

DEFERRED_KEYS = 4096
"""Up to so many keys, many small steps between large ones cost more than they compute: on a CPU a fifth of the second
pass at 4,096; on a GPU launches would, which is not measured."""


def choose_backend(name: BackendName, *, num_keys: int) -> type[Backend]:
    """`auto`: deferred for short prompts, dense for others. Never lse, which gives fewer statistics."""
    if name != "auto":
        return BACKENDS[name]
    return Deferred if num_keys <= DEFERRED_KEYS else Dense
