"""Images of two forwards in a row are seen once: prompts that cannot share a context still share its images."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

_METHODS = ("get_image_features", "get_video_features")
"""By which transformers' models ask their vision tower, all of them by these names."""


@contextmanager
def see_images_once(model: PreTrainedModel) -> Generator[None]:
    """Within, the vision tower's last answer is given again when it is asked for the very same images.

    Models that ask by other names see their images each time, as without.
    """
    with ExitStack() as stack:
        for name in _METHODS:
            see = getattr(model.base_model, name, None)
            if see is not None:
                setattr(model.base_model, name, _Remembering(see))
                stack.callback(delattr, model.base_model, name)
        yield


class _Remembering:
    """A function that keeps its last answer."""

    def __init__(self, see: Callable[..., Any]) -> None:
        self._see = see
        self._known: tuple[tuple[Any, ...], Mapping[str, Any], Any] | None = None

    def __call__(self, *positional: Any, **named: Any) -> Any:
        if self._known is None or not _same((positional, named), self._known[:2]):
            self._known = (positional, named, self._see(*positional, **named))
        return self._known[2]


def _same(one: Any, other: Any) -> bool:
    """Equal, tensors by their values."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(map(_same, one, other))
    return not isinstance(one, Tensor) and not isinstance(other, Tensor) and bool(one == other)
