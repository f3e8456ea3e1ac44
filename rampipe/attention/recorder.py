"""What a forward leaves behind: statistics per layer, by the layer's own index."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from rampipe.attention.backends import Backend
from rampipe.attention.call import AttentionCall
from rampipe.attention.statistics import LayerStatistics
from rampipe.attention.stopping import ForwardStopped
from rampipe.errors import ModelError


class Recorder:
    """Filled by one forward. wanted: layers to record, None for all. last: the layer that ends the forward, if any."""

    def __init__(self, backend: Backend, *, wanted: Collection[int] | None = None, last: int | None = None) -> None:
        self.has_learned_sink = False
        self._backend = backend
        self._wanted = wanted
        self._last = last
        self._seen: set[int] = set()
        self._device_type = "cpu"

    @property
    def layers(self) -> dict[int, LayerStatistics]:
        """By the module's own `layer_idx`, as layers without softmax attention have none; whole after the context."""
        return self._backend.layers

    def observe(self, module: nn.Module, call: AttentionCall) -> None:
        """Record one layer. Raises ModelError for a layer without an index or seen twice."""
        layer = getattr(module, "layer_idx", None)
        if not isinstance(layer, int):
            raise ModelError(
                f"{type(module).__name__} of the decoder has layer_idx {layer!r}; needed: an integer, to name its "
                "heads. This model cannot be captured."
            )
        if layer in self._seen:
            raise ModelError(
                f"{type(module).__name__} {layer} ran twice within one capture; allowed: one forward. Open a new "
                "`with capture_attention(...)` for each forward, and do not generate within it."
            )
        self._seen.add(layer)
        self._device_type = call.query.device.type
        if self._wanted is None or layer in self._wanted:
            with torch.no_grad(), torch.autocast(call.query.device.type, enabled=False):
                self._backend.observe(layer, call)
            self.has_learned_sink = self.has_learned_sink or call.sinks is not None
        if layer == self._last:
            raise ForwardStopped

    def finish(self) -> None:
        """The forward is over."""
        with torch.no_grad(), torch.autocast(self._device_type, enabled=False):
            self._backend.finish()
