"""How long a prompt is, by a model's own image processor, tokenizer and chat template."""

from __future__ import annotations

from rampipe.config import CaptureConfig, ModelConfig
from rampipe.models.features import process_images
from rampipe.models.images import decode_images
from rampipe.models.layout import lay_out
from rampipe.models.loading import load_replica
from rampipe.types import Sample


class TokenCounter:
    """Loads a checkpoint on the CPU, as a replica does, so that what is counted is what a capture reads."""

    def __init__(self, model: str) -> None:
        self._replica = load_replica(ModelConfig(path=model), device="cpu")
        self._max_pixels = CaptureConfig().max_pixels

    def __call__(self, sample: Sample) -> int:
        """Tokens of the prompt. Raises SampleError of stage decode or encode."""
        images = decode_images(sample, max_pixels=self._max_pixels)
        features = process_images(self._replica, sample, images)
        layout = lay_out(self._replica, sample, features, question=sample.question, answer=None, order="context_first")
        return len(layout.input_ids)
