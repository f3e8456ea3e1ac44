"""Every statistic, after the forward: within it only the selected query rows are copied, and keys are kept alive.

Layers are then computed together: a GPU gets a few large launches and not many small ones per layer, and a CPU does not
leave the forward's working set at each of them. Keys of all layers stay until the end: half of what a cache takes,
where there is none.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from rampipe.attention.backends.backend import Backend
from rampipe.attention.backends.blocks import num_stacked
from rampipe.attention.backends.dense import all_statistics
from rampipe.attention.call import AttentionCall
from rampipe.attention.rows import KeyLayout, SampleRows
from rampipe.attention.statistics import LayerStatistics, RowRead, in_order_of_rows, read_rows


class Deferred(Backend):
    """Keeps what `Dense` would have read."""

    def __init__(self, samples: Sequence[SampleRows]) -> None:
        super().__init__(samples)
        self._reads: list[RowRead] = []

    def observe(self, layer: int, call: AttentionCall) -> None:
        """Keep rows and keys of one layer."""
        self._reads += [read_rows(layer, call, sample) for sample in self.samples]

    def layout(self, read: RowRead) -> KeyLayout:
        """The keys that are touched."""
        return read.layout

    def compute(self, reads: Sequence[RowRead]) -> list[LayerStatistics]:
        """Statistics of each of some reads of one kind."""
        return all_statistics(reads, self.scratch)

    def finish(self) -> None:
        """Compute all layers and let go of the keys."""
        alike: dict[Hashable, list[RowRead]] = {}
        for read in self._reads:
            alike.setdefault(_kind(read), []).append(read)
        self._reads = []
        found: dict[tuple[int, int], LayerStatistics] = {}
        for reads in alike.values():
            size = num_stacked(reads[0], self.layout(reads[0]))
            for some in (reads[start : start + size] for start in range(0, len(reads), size)):
                for read, statistics in zip(some, self.compute(some), strict=True):
                    found[read.layer, id(read.sample)] = statistics
        for layer in sorted({layer for layer, _ in found}):
            parts = [found[layer, id(sample)] for sample in self.samples]
            self.layers[layer] = in_order_of_rows(self.samples, parts)


def _kind(read: RowRead) -> Hashable:
    """Reads of one kind can be stacked."""
    given = (read.sinks is not None, read.log_total is not None)
    return id(read.layout), read.query.shape, read.key.shape, read.key.device, read.scaling, read.softcap, given
