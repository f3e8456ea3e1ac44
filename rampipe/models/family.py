"""What a family file offers: the same names in every one, so knowing one is knowing all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from rampipe.models.vision import Vision

ImageTensors = Mapping[str, Tensor]
"""What the processor makes of the images, or videos, of one prompt, by the name that the model's forward expects."""


@runtime_checkable
class Family(Protocol):
    """One file of this folder. The functions are pure: state lives in the replica."""

    @property
    def MODEL_TYPES(self) -> tuple[str, ...]:  # noqa: N802 - a constant of the file
        """Values of `model_type` in config.json that this file handles."""
        ...

    def image_token_id(self, model_config: Any) -> int | None:
        """Id of the token that stands for one visual token; None for models of text.

        Called before the weights are loaded. Raises ModelError for variants that the file does not know.
        """
        ...


@runtime_checkable
class VisionFamily(Family, Protocol):
    """A family that is shown images."""

    @property
    def VIDEO(self) -> bool:  # noqa: N802 - a constant of the file
        """Whether the file has the functions of `VideoFamily` too."""
        ...

    def placeholder(self, vision: Vision) -> str:
        """What the chat template writes for one image; mostly the image token itself."""
        ...

    def process_images(self, vision: Vision, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Tensors of all images of one prompt, in prompt order. `images` is not empty.

        Raises ValueError for an image that the processor refuses.
        """
        ...

    def expand_placeholders(self, vision: Vision, tensors: ImageTensors) -> list[str]:
        """For each image, the text that takes the place of the template's one placeholder.

        It may hold other tokens (row marks of tiles); only the image token stands for a visual token.
        """
        ...

    def visual_boxes(
        self, vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]
    ) -> list[Float[Tensor, "_ 4"]]:
        """For each image, (x0, y0, x1, y1) of each image token in prompt order, in pixels of the stored image.

        sizes: (width, height) of the stored images. A token without a place (a newline between rows) has NaN. Where an
        image is shown several times (tiles and thumbnail), each token has the box that it shows.
        """
        ...

    def token_inputs(self, vision: Vision, input_ids: Int[Tensor, " token"]) -> dict[str, Tensor]:
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


@runtime_checkable
class VideoFamily(VisionFamily, Protocol):
    """A family that is shown videos as such. Frames are given: nothing is sampled."""

    def video_token_id(self, model_config: Any) -> int:
        """Id of the token that stands for one visual token of a video."""
        ...

    def video_placeholder(self, vision: Vision) -> str:
        """What the chat template writes for one video, as far as it is replaced."""
        ...

    def process_videos(self, vision: Vision, videos: Sequence[Sequence[Image.Image]]) -> dict[str, Tensor]:
        """Tensors of all videos of one prompt, in prompt order, under other names than those of images.

        Frames of one video have one size. Raises ValueError for a video that the processor refuses.
        """
        ...

    def expand_videos(self, vision: Vision, tensors: ImageTensors) -> list[str]:
        """For each video, the text that takes the place of the template's one placeholder."""
        ...

    def video_boxes(
        self, vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]
    ) -> list[tuple[Float[Tensor, "_ 4"], Int[Tensor, "_ _"]]]:
        """For each video, the box of each token as in `visual_boxes`, and the frames of the video that it shows.

        sizes: (width, height) of each video's frames. Frames count from 0; rows are filled up with -1.
        """
        ...


@cache
def as_vision(family: Family) -> VisionFamily | None:
    """The family as one that is shown images; None for one of text. Asking a protocol takes 50 us each time."""
    return family if isinstance(family, VisionFamily) else None


@cache
def as_video(family: Family) -> VideoFamily | None:
    """The family as one that is shown videos, as above."""
    return family if isinstance(family, VideoFamily) else None
