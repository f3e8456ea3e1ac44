"""The images of samples that follow each other on one context: decoded and processed once."""

from __future__ import annotations

from dataclasses import dataclass

from rampipe.models.features import VisualFeatures, process_images
from rampipe.models.images import decode_images
from rampipe.models.replica import Replica
from rampipe.types import Sample


@dataclass(frozen=True, slots=True)
class _Read:
    sample: Sample
    features: VisualFeatures


class ContextImages:
    """Remembers the last context. Trials of one context then also share the memory of its tensors."""

    def __init__(self, replica: Replica, *, max_pixels: int) -> None:
        self._replica = replica
        self._max_pixels = max_pixels
        self._last: _Read | None = None

    def of(self, sample: Sample) -> VisualFeatures:
        """What the image processor makes of a sample's images. Safe in threads: at worst, work is done twice.

        Raises SampleError of stage decode or encode.
        """
        last = self._last
        if last is not None and (last.sample.context, last.sample.images) == (sample.context, sample.images):
            return last.features
        images = decode_images(sample, max_pixels=self._max_pixels)
        features = process_images(self._replica, sample, images)
        self._last = _Read(sample, features)
        return features
