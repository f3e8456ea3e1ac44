"""The images of a sample as the model will see them. The costly part of encoding, shared by prompts of one context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from rampipe.errors import SampleError
from rampipe.models.replica import Replica
from rampipe.types import Sample


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """The images that the context shows, in its order; one shown twice is here twice."""

    tensors: Mapping[str, Tensor]
    """Of the image processor, by the name that the model's forward expects; empty without images."""
    shown: tuple[int, ...]
    """Index into `Sample.images` of each."""
    texts: tuple[str, ...]
    """What each becomes in the prompt's text."""
    boxes: tuple[Float[Tensor, "_ 4"], ...]
    """(x0, y0, x1, y1) of each visual token of each image, in pixels of the stored image."""
    sizes: tuple[tuple[int, int], ...]
    """(width, height) of each of `Sample.images`, shown or not."""


def process_images(replica: Replica, sample: Sample, images: Sequence[Image.Image]) -> ImageFeatures:
    """Runs the image processor over the images that the context shows. `images` are the decoded `Sample.images`.

    Raises SampleError (stage encode): video_unsupported, image_index, image_unsupported.
    """
    sizes = tuple((image.width, image.height) for image in images)
    shown = _list_shown(sample, num_images=len(images))
    if not shown:
        return ImageFeatures({}, (), (), (), sizes)
    try:
        tensors = replica.family.process_images(replica.image_processor, [images[index] for index in shown])
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        message = f"sample {sample.sample_id}: the image processor refuses an image ({reason}). Sample skipped."
        raise SampleError(message, stage="encode", code="image_unsupported") from error
    texts = replica.family.expand_placeholders(replica.image_processor, tensors, replica.image_token)
    boxes = replica.family.visual_boxes(replica.image_processor, tensors, [sizes[index] for index in shown])
    return ImageFeatures(tensors, shown, tuple(texts), tuple(boxes), sizes)


def _list_shown(sample: Sample, *, num_images: int) -> tuple[int, ...]:
    shown: list[int] = []
    for number, part in enumerate(sample.context):
        if part.kind == "video":
            message = f"sample {sample.sample_id}: part {number} is a video, which is not supported. Sample skipped."
            raise SampleError(message, stage="encode", code="video_unsupported")
        if part.kind == "image":
            if part.image is None or not 0 <= part.image < num_images:
                message = (
                    f"sample {sample.sample_id}: part {number} shows image {part.image}, but the sample has "
                    f"{num_images}. Use an index from 0. Sample skipped."
                )
                raise SampleError(message, stage="encode", code="image_index")
            shown.append(part.image)
    return tuple(shown)
