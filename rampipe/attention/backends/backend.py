"""What every backend of the second pass is: the same numbers up to rounding, got at another time or from less."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch

from rampipe.attention.backends.blocks import Scratch
from rampipe.attention.call import AttentionCall
from rampipe.attention.rows import SampleRows
from rampipe.attention.statistics import LayerStatistics


class Backend(ABC):
    """Statistics of the selected rows of one forward. layers: what is known so far, by the layer's own index."""

    NEEDS_LOG_TOTAL: ClassVar[bool] = False
    """Whether the kernel is to be watched for its log-sum."""

    def __init__(self, samples: Sequence[SampleRows]) -> None:
        self.samples = samples
        self.layers: dict[int, LayerStatistics] = {}
        self.scratch = Scratch()
        row = torch.cat([sample.row for sample in samples]).cpu()
        self._order = None if torch.equal(row, torch.arange(len(row))) else row.argsort()

    @abstractmethod
    def observe(self, layer: int, call: AttentionCall) -> None:
        """One layer has run. Raises SampleError when a row or the keys lie outside of the call."""

    def finish(self) -> None:  # noqa: B027 - most have nothing left to do
        """The forward is over; afterwards `layers` holds every layer that was observed."""

    def keep(self, layers: Sequence[int], whole: LayerStatistics) -> None:
        """Take what was computed of some layers, one behind the other, as are rows of one sample and the next. They are
        kept by layer, rows in the order of `QueryRows`.
        """
        rows = slice(None) if self._order is None else self._order.to(whole.mass.device)
        num_heads = len(whole.mass) // len(layers)
        for place, layer in enumerate(layers):
            self.layers[layer] = whole.at(slice(place * num_heads, (place + 1) * num_heads), rows)
