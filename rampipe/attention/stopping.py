"""End a forward once a layer's attention has run: what comes after it would be computed for nobody."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress

from torch import nn
from transformers import PreTrainedModel

from rampipe.attention.call import AttentionCall
from rampipe.attention.interface import observe_attention


class ForwardStopped(BaseException):
    """Ends a forward from within. Not an Exception, so that no handler of a model takes it for a failure."""


@contextmanager
def stop_after(model: PreTrainedModel, layer: int) -> Generator[None]:
    """The first forward within ends after the attention of `layer`, and with it the body of the context.

    The caches of all layers up to this one are filled. A forward that never comes to the layer runs to its end.
    """

    def observer(module: nn.Module, call: AttentionCall) -> None:
        del call
        if getattr(module, "layer_idx", None) == layer:
            raise ForwardStopped

    with suppress(ForwardStopped), observe_attention(model.get_decoder(), observer):
        yield
