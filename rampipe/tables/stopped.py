"""`stopped.json`: this capture ended before its plan did, and these units are the run. Write-once, as the plan is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from rampipe.errors import StorageError
from rampipe.tables.fingerprint import canonical_json
from rampipe.tables.storage import Storage

STOPPED_PATH = "stopped.json"
REQUEST_PATH = "stop_request.json"
"""The same content, published by another process than the capture, which then ends with it."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why a run is whole with fewer units than were planned.

    unit_ids: the units that count, in the order in which they were looked at. num_samples: planned in these;
    num_planned: in all. level: probability that the top set is right, of num_items independent items. tolerance_frac:
    how much more than a chosen one a head that was left out may have, as a share. heads: chosen, `layer.head`.
    """

    fingerprint: str
    unit_ids: tuple[int, ...]
    num_samples: int
    num_planned: int
    metric: str
    k_frac: float
    level: float
    tolerance_frac: float
    item: str
    num_items: int
    heads: tuple[str, ...]

    @property
    def saved_frac(self) -> float:
        """Share of the planned samples that were not needed."""
        return 1.0 - self.num_samples / self.num_planned

    @property
    def sentence(self) -> str:
        """For people."""
        within = f" within {self.tolerance_frac:.1%}" if self.tolerance_frac else ""
        return (
            f"stopped after {self.num_samples} of {self.num_planned} samples ({self.saved_frac:.1%} saved): "
            f"the top {len(self.heads)} heads by {self.metric} are certain{within} at {self.level:.1%}"
        )

    def to_json(self) -> bytes:
        """The bytes of the file."""
        return canonical_json(asdict(self)) + b"\n"


def read_stopped(storage: Storage, path: str = STOPPED_PATH) -> Stopped | None:
    """What a run was stopped with; None for one that reads its whole plan. Raises StorageError when it is damaged."""
    if storage.size(path) is None:
        return None
    try:
        raw = json.loads(storage.read(path))
        raw["unit_ids"], raw["heads"] = tuple(raw["unit_ids"]), tuple(raw["heads"])
        return Stopped(**raw)
    except (ValueError, TypeError, KeyError):
        raise StorageError(
            f"{storage.uri}/{path}: damaged or edited. Delete it, and capture goes on from what is committed."
        ) from None
