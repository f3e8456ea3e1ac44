"""Every statistic, after the forward: within it only the selected query rows are copied, and keys are kept alive.

Layers are then computed together: a GPU gets a few large launches and not many small ones per layer, and a CPU does not
leave the forward's working set at each of them. Keys of all layers stay until the end: half of what a cache takes,
where there is none.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from rampipe.attention.backends.backend import Backend
from rampipe.attention.backends.blocks import num_stacked
from rampipe.attention.backends.dense import all_statistics
from rampipe.attention.call import AttentionCall
from rampipe.attention.rows import KeyLayout, SampleRows
from rampipe.attention.statistics import LayerStatistics, RowRead, read_rows


class Deferred(Backend):
    """Keeps what `Dense` would have read."""

    def __init__(self, samples: Sequence[SampleRows]) -> None:
        super().__init__(samples)
        self._reads: dict[int, list[RowRead]] = {}

    def observe(self, layer: int, call: AttentionCall) -> None:
        """Keep rows and keys of one layer."""
        self._reads[layer] = [read_rows(call, sample) for sample in self.samples]

    def layout(self, read: RowRead) -> KeyLayout:
        """The keys that are touched."""
        return read.layout

    def compute(self, samples: Sequence[Sequence[RowRead]]) -> LayerStatistics:
        """As `all_statistics`."""
        return all_statistics(samples, self.scratch)

    def finish(self) -> None:
        """Compute all layers and let go of the keys."""
        for layers in self._together():
            of_layers = [self._reads.pop(layer) for layer in layers]
            self.keep(layers, self.compute(list(zip(*of_layers, strict=True))))
        self.layers = dict(sorted(self.layers.items()))

    def _together(self) -> Iterator[list[int]]:
        """Layers that can be stacked, as many at once as fill a block."""
        alike: dict[Hashable, list[int]] = {}
        for layer, reads in self._reads.items():
            alike.setdefault(tuple(_kind(read) for read in reads), []).append(layer)
        for layers in alike.values():
            size = min(num_stacked(read, self.layout(read)) for read in self._reads[layers[0]])
            yield from (layers[start : start + size] for start in range(0, len(layers), size))


def _kind(read: RowRead) -> Hashable:
    """Reads of one kind can be stacked."""
    given = (read.sinks is not None, read.log_total is not None)
    return id(read.layout), read.query.shape, read.key.shape, read.key.device, read.scaling, read.softcap, given
