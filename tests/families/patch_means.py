"""What every visual token is made of, read from the tensors that the model is given.

Means over patches take the place of features and go through the functions by which transformers' model of the family
merges, stitches, cuts and pools them. So the order of tokens is the model's own, and nothing is shared with
`rampipe.models` but the names of tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

from rampipe.models.replica import Replica

Measure = Callable[[Tensor], Tensor]
"""Pixels [..., 3], 0 to 1, to numbers [..., channel], of which the mean over a token's pixels is wanted."""
Tensors = Mapping[str, Tensor]


def token_means(replica: Replica, tensors: Tensors, measure: Measure) -> Float[Tensor, "visual channel"]:
    """Of a prompt of images or of videos, in its order. NaN for a token that is made of no pixels (a newline)."""
    assert replica.vision is not None
    processor, read = replica.vision.image_processor, READERS[replica.family.MODEL_TYPES[0]]
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    means = read(replica.model.model, tensors, lambda pixels: measure(pixels * std + mean))
    return means.reshape(-1, means.shape[-1])


def _pixels(tensors: Tensors) -> Tensor:
    return tensors["pixel_values_videos" if "pixel_values_videos" in tensors else "pixel_values"]


def _squares(model: Any, tensors: Tensors, measure: Measure) -> Float[Tensor, "picture row column channel"]:
    """Means of the patches of each picture. What is left of a side behind the last whole patch is in none."""
    pictures = _pixels(tensors).flatten(0, -4).movedim(1, -1)
    patch_px = model.config.vision_config.patch_size
    return avg_pool2d(measure(pictures).movedim(-1, 1), patch_px).movedim(1, -1)


def _neighbours(model: Any, tensors: Tensors, measure: Measure) -> Tensor:
    """Qwen and GLM: patches [channel, time, height, width], in memory one behind the other as they are merged."""
    patches = _pixels(tensors).unflatten(-1, (3, -1)).transpose(-1, -2)
    num_merged = model.config.vision_config.spatial_merge_size**2
    return measure(patches).mean(dim=1).unflatten(0, (-1, num_merged)).mean(dim=1)


def _shuffled(model: Any, tensors: Tensors, measure: Measure) -> Tensor:
    """InternVL: the channels of a token's patches are put one behind the other."""
    shuffled = model.pixel_shuffle(_squares(model, tensors, measure), scale_factor=model.config.downsample_ratio)
    return shuffled.unflatten(-1, (round(model.config.downsample_ratio**-2), -1)).mean(dim=-2)


def _connected(model: Any, tensors: Tensors, measure: Measure) -> Tensor:
    """Idefics3 and SmolVLM: as InternVL."""
    connector = model.connector
    shuffled = connector.pixel_shuffle(_squares(model, tensors, measure).flatten(1, 2), connector.scale_factor)
    return shuffled.unflatten(-1, (connector.scale_factor**2, -1)).mean(dim=-2)


def _pooled(model: Any, tensors: Tensors, measure: Measure) -> Tensor:
    """Gemma 3."""
    return model.multi_modal_projector.avg_pool(_squares(model, tensors, measure).movedim(-1, 1)).movedim(1, -1)


def _pooled_by_place(model: Any, tensors: Tensors, measure: Measure) -> Tensor:
    """Gemma 4: patches [height, width, channel], and where each lies."""
    pixels = _pixels(tensors)
    where = tensors["video_position_ids" if "pixel_values_videos" in tensors else "image_position_ids"]
    means = measure(pixels.unflatten(-1, (-1, 3))).mean(dim=-2)
    num_tokens = pixels.shape[1] // model.config.vision_config.pooling_kernel_size**2
    pooled, is_token = model.vision_tower.pooler(means, where, (where == -1).all(dim=-1), output_length=num_tokens)
    return pooled[is_token]


def _cut(model: Any, tensors: Tensors, measure: Measure) -> Tensor:
    """Pixtral's tower cuts the padding off, and Mistral 3 merges patches thereafter."""
    grids, sizes = _squares(model, tensors, measure), tensors["image_sizes"]
    ends = (sizes // model.config.vision_config.patch_size).tolist()
    patches = torch.cat(
        [grid[:bottom, :right].flatten(0, 1) for grid, (bottom, right) in zip(grids, ends, strict=True)]
    )
    if model.config.model_type == "llava":
        return patches
    merger = type(model.multi_modal_projector.patch_merger)(model.config)
    merger.merging_layer = torch.nn.Identity()
    return merger(patches, sizes).unflatten(-1, (-1, merger.spatial_merge_size**2)).mean(dim=-1)


def _stitched(model: Any, tensors: Tensors, measure: Measure) -> Tensor:
    """LLaVA-NeXT, and LLaVA-OneVision, of which several images in one prompt have one tile each."""
    config, sizes = model.config, tensors["image_sizes"]
    tiles = _squares(model, tensors, measure).flatten(1, 2)
    is_tiled = "batch_num_images" not in tensors or len(sizes) == 1
    rule = (config.image_grid_pinpoints, config.vision_config.image_size)
    counts = [image_size_to_num_patches(size, *rule) if is_tiled else 1 for size in sizes]
    options = {"vision_feature_select_strategy": "default"}
    if config.model_type == "llava_onevision":
        options = {"vision_aspect_ratio": config.vision_aspect_ratio}
    newline = torch.full(tiles.shape[-1:], torch.nan, dtype=tiles.dtype)
    features, _ = model.pack_image_features(tiles.split(counts), sizes, image_newline=newline, **options)
    return torch.cat(features)


def _stitched_or_frames(model: Any, tensors: Tensors, measure: Measure) -> Tensor:
    """LLaVA-OneVision: frames are pooled, and each video ends in a newline."""
    if "pixel_values_videos" not in tensors:
        return _stitched(model, tensors, measure)
    pooled = model.apply_pooling(_squares(model, tensors, measure).flatten(1, 2))
    videos = pooled.unflatten(0, tensors["pixel_values_videos"].shape[:2]).flatten(1, 2)
    return pad(videos, (0, 0, 0, 1), value=torch.nan)


READERS = MappingProxyType(
    {
        "qwen2_vl": _neighbours,
        "qwen3_vl": _neighbours,
        "glm4v": _neighbours,
        "llava": _squares,
        "llava_next": _stitched,
        "llava_onevision": _stitched_or_frames,
        "internvl": _shuffled,
        "mistral3": _cut,
        "gemma3": _pooled,
        "gemma4": _pooled_by_place,
        "idefics3": _connected,
        "smolvlm": _connected,
    }
)
"""How a family's models make tokens of patches, by the first of its `MODEL_TYPES`."""
