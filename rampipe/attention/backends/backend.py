"""What every backend of the second pass is: the same numbers up to rounding, got at another time or from less."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

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

    @abstractmethod
    def observe(self, layer: int, call: AttentionCall) -> None:
        """One layer has run. Raises SampleError when a row or the keys lie outside of the call."""

    def finish(self) -> None:  # noqa: B027 - most have nothing left to do
        """The forward is over; afterwards `layers` holds every layer that was observed."""
