"""What a forward leaves behind: statistics per layer, by the layer's own index."""

from __future__ import annotations

from torch import nn

from rampipe.attention.call import AttentionCall
from rampipe.attention.rows import SampleRows
from rampipe.attention.statistics import LayerStatistics, row_statistics
from rampipe.errors import ModelError


class Recorder:
    """Filled by one forward. layers: by the module's own `layer_idx`, as layers without softmax attention have none."""

    def __init__(self, samples: list[SampleRows], *, key_chunk: int) -> None:
        self.layers: dict[int, LayerStatistics] = {}
        self.has_learned_sink = False
        self._samples = samples
        self._key_chunk = key_chunk

    def observe(self, module: nn.Module, call: AttentionCall) -> None:
        """Record one layer. Raises ModelError for a layer without an index or seen twice."""
        layer = getattr(module, "layer_idx", None)
        if not isinstance(layer, int):
            raise ModelError(
                f"{type(module).__name__} of the decoder has layer_idx {layer!r}; needed: an integer, to name its "
                "heads. This model cannot be captured."
            )
        if layer in self.layers:
            raise ModelError(
                f"{type(module).__name__} {layer} ran twice within one capture; allowed: one forward. Open a new "
                "`with capture_attention(...)` for each forward, and do not generate within it."
            )
        self.layers[layer] = row_statistics(call, self._samples, key_chunk=self._key_chunk)
        self.has_learned_sink = self.has_learned_sink or call.sinks is not None
