"""The vision tower's forward as training runs it: pixels as an array, and a matrix product for the patch embedding.

The weights are the stock model's. The stock Conv3d costs most of a CPU training step; because an image is repeated
over the temporal patch, its sum over that axis is the same map.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel
from transformers.vision_utils import get_vision_position_ids

from rampipe.testbed.architecture import MERGE, PATCH_PX
from rampipe.testbed.parts import vision_blocks


def patchify(pixels: UInt8[np.ndarray, "image height width 3"]) -> Float[Tensor, "patch pixel"]:
    """Normalised patches in the order of the stock image processor (merge block by merge block), one frame only."""
    num_images, height, width, _ = pixels.shape
    grid = (height // PATCH_PX // MERGE, MERGE, PATCH_PX, width // PATCH_PX // MERGE, MERGE, PATCH_PX)
    scaled = torch.from_numpy(pixels).to(torch.float32) / 255
    scaled = (scaled - torch.tensor(OPENAI_CLIP_MEAN)) / torch.tensor(OPENAI_CLIP_STD)
    blocks = scaled.reshape(num_images, *grid, 3).permute(0, 1, 4, 2, 5, 7, 3, 6)
    return blocks.reshape(-1, 3 * PATCH_PX * PATCH_PX)


def cell_features(
    visual: Qwen2VisionTransformerPretrainedModel, pixels: UInt8[np.ndarray, "image height width 3"]
) -> Float[Tensor, "image cell hidden"]:
    """What the language model sees of each cell: the stock tower's `pooler_output`."""
    num_images, height, width, _ = pixels.shape
    grid = torch.tensor([[1, height // PATCH_PX, width // PATCH_PX]]).expand(num_images, 3)
    weight = visual.patch_embed.proj.weight.sum(dim=2).flatten(1)
    hidden = functional.linear(patchify(pixels), weight)
    positions = visual.rotary_pos_emb(hidden, get_vision_position_ids(grid, MERGE))
    num_patches = int(grid[0].prod())
    boundaries = torch.arange(0, num_images + 1, dtype=torch.int32) * num_patches
    for block in vision_blocks(visual):
        hidden = block(hidden, cu_seqlens=boundaries, max_seqlen=num_patches, position_embeddings=positions)
    return visual.merger(hidden).reshape(num_images, -1, visual.config.hidden_size)
