"""A capture that may be ended from outside: another process asks by a file, the capture sees it between units."""

from __future__ import annotations

from rampipe.errors import StorageError
from rampipe.tables.order import random_order
from rampipe.tables.run import Run
from rampipe.tables.stopped import REQUEST_PATH, Stopped, read_stopped


class RequestedStop:
    """What a capture asks after every unit. order: ids of the planned units, shuffled by the seed.

    The first request counts, and only when all units that it names are committed.
    """

    def __init__(self, run: Run, *, seed: int) -> None:
        self._run = run
        self.order = random_order((unit.unit_id for unit in run.units), seed=seed)
        self._committed = set[int]()
        self._request: Stopped | None = None

    @property
    def is_certain(self) -> bool:
        """Whether somebody has asked, and has what they asked for.

        Raises StorageError for a request that is damaged or of another run.
        """
        if self._request is None:
            self._request = read_stopped(self._run.storage, REQUEST_PATH)
            if self._request is not None and self._request.fingerprint != self._run.fingerprint:
                raise StorageError(
                    f"{self._run.storage.uri}/{REQUEST_PATH}: is of fingerprint {self._request.fingerprint[:12]}, the "
                    f"run has {self._run.fingerprint[:12]}. Delete it."
                )
        return self._request is not None and self._committed.issuperset(self._request.unit_ids)

    def add_unit(self, unit_id: int) -> None:
        """A unit is committed."""
        self._committed.add(unit_id)

    def stopped(self) -> Stopped | None:
        """What was asked for; None while it is not to be done, or when no unit would be saved."""
        return self._request if self.is_certain and len(self._committed) < len(self.order) else None
