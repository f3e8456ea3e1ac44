"""Every statistic, after the forward: within it only the selected query rows are copied, and keys are kept alive.

Layers are then computed together, so that a GPU gets a few large launches and not many small ones per layer: what
costs on short prompts. Keys of all layers stay until the end: half of what a cache takes, where there is none.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from rampipe.attention.backends.backend import Backend
from rampipe.attention.backends.dense import all_statistics
from rampipe.attention.call import AttentionCall
from rampipe.attention.rows import SampleRows
from rampipe.attention.statistics import LayerStatistics, RowRead, in_order_of_rows, read_rows


class Deferred(Backend):
    """Keeps what `Dense` would have read."""

    def __init__(self, samples: Sequence[SampleRows]) -> None:
        super().__init__(samples)
        self._reads: list[RowRead] = []

    def observe(self, layer: int, call: AttentionCall) -> None:
        """Keep rows and keys of one layer."""
        self._reads += [read_rows(layer, call, sample) for sample in self.samples]

    def finish(self) -> None:
        """Compute all layers and let go of the keys."""
        alike: dict[Hashable, list[RowRead]] = {}
        for read in self._reads:
            alike.setdefault(_kind(read), []).append(read)
        self._reads = []
        found: dict[tuple[int, int], LayerStatistics] = {}
        for reads in alike.values():
            for read, statistics in zip(reads, all_statistics(reads), strict=True):
                found[read.layer, id(read.sample)] = statistics
        for layer in sorted({layer for layer, _ in found}):
            parts = [found[layer, id(sample)] for sample in self.samples]
            self.layers[layer] = in_order_of_rows(self.samples, parts)


def _kind(read: RowRead) -> Hashable:
    """Reads of one kind can be stacked."""
    has_sinks = read.sinks is not None
    return id(read.layout), read.query.shape, read.key.shape, read.key.device, read.scaling, read.softcap, has_sinks
