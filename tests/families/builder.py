"""What the shared checks need of a family: a small random checkpoint on disk, and what is special about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rampipe.models.replica import Replica


@dataclass(frozen=True)
class Builder:
    """One checkpoint. write: everything that a real one has, from the family's own classes, into an empty folder."""

    name: str
    """Row of the table, e.g. `Qwen2-VL`."""
    model_type: str
    write: Callable[[Path], None]
    processor: Callable[[Replica], Any] | None = None
    """The family's own processor over the replica's tokenizer and image processor; None where it needs torchvision."""
    hybrid_refusal: str | None = None
    """Part of the message by which hybrid attention refuses the model; None where it must work."""

    def __str__(self) -> str:
        return self.name
