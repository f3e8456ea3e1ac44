"""What a family file offers: the same names in every one, so knowing one is knowing all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

ImageTensors = Mapping[str, Tensor]
"""What the image processor returns for the images of one prompt, by the name that the model's forward expects."""


@runtime_checkable
class Family(Protocol):
    """One file of this folder. The functions are pure: state lives in the replica."""

    @property
    def MODEL_TYPES(self) -> tuple[str, ...]:  # noqa: N802 - a constant of the file
        """Values of `model_type` in config.json that this file handles."""
        ...

    def image_token_id(self, model_config: Any) -> int:
        """Id of the token that stands for one visual token."""
        ...

    def process_images(self, image_processor: Any, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Tensors of all images of one prompt, in prompt order. `images` is not empty."""
        ...

    def expand_placeholders(self, image_processor: Any, tensors: ImageTensors, image_token: str) -> list[str]:
        """For each image, the text that takes the place of the template's one placeholder.

        It may hold other tokens (row marks of tiles); only the image token stands for a visual token.
        """
        ...

    def visual_boxes(
        self, image_processor: Any, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]
    ) -> list[Float[Tensor, "_ 4"]]:
        """For each image, (x0, y0, x1, y1) of each image token in prompt order, in pixels of the stored image.

        sizes: (width, height) of the stored images. A token without a place (a newline between rows) has NaN.
        """
        ...

    def token_inputs(self, input_ids: Int[Tensor, " token"], image_token_id: int) -> dict[str, Tensor]:
        """Per-token tensors besides the ids that the forward needs, each [token]; padded with 0 in a batch."""
        ...

    def forward_inputs(
        self, model: Any, tensors: Sequence[ImageTensors], batch: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """What the forward needs besides `batch`: image tensors of all prompts, and positions where not 0, 1, 2...

        tensors: per prompt, empty for a prompt without images. batch: input_ids, attention_mask and the padded
        `token_inputs`, each [batch, token].
        """
        ...
