"""Idefics3: tiles with their row and column in the text, and the whole image once more behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from rampipe.models.family import ImageTensors
from rampipe.models.tiles import tile_boxes
from rampipe.models.vision import Vision

MODEL_TYPES = ("idefics3",)
VIDEO = False
AROUND = "<fake_token_around_image>"
WHOLE = "<global-img>"


def image_token_id(model_config: Any) -> int:
    """Id of `<image>`."""
    return int(model_config.image_token_id)


def placeholder(vision: Vision) -> str:
    """The image token itself."""
    return vision.image_token


def process_images(vision: Vision, images: Sequence[Image.Image]) -> dict[str, Tensor]:
    """`pixel_values` [1, tile, channel, side, side] of all images, `rows` and `cols` [image] of tiles; 0 when unsplit.

    All tiles are whole squares, so the mask of padding that the processor makes hides nothing.
    """
    features = vision.image_processor(images=[list(images)], return_row_col_info=True, return_tensors="pt")
    rows, cols = (torch.as_tensor(features[name]).reshape(-1) for name in ("rows", "cols"))
    return {"pixel_values": features["pixel_values"], "rows": rows, "cols": cols}


def expand_placeholders(vision: Vision, tensors: ImageTensors) -> list[str]:
    """Each tile says where it is; a row of tiles is a line, and the whole image comes behind an empty one."""
    tokens = vision.image_token * tile_tokens(vision.config) ** 2
    texts: list[str] = []
    for num_rows, num_columns in _tile_grids(tensors):
        lines = [
            "".join(f"{AROUND}<row_{row}_col_{column}>{tokens}" for column in range(1, num_columns + 1)) + "\n"
            for row in range(1, num_rows + 1)
        ]
        gap = "\n" if lines else ""
        texts.append("".join(lines) + f"{gap}{AROUND}{WHOLE}{tokens}{AROUND}")
    return texts


def visual_boxes(vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]) -> list[Float[Tensor, "_ 4"]]:
    """Row by row within each tile, tiles row by row, the whole image last. Resizing distorts and crops nothing."""
    side = tile_tokens(vision.config)
    return [
        tile_boxes(size, (max(columns, 1), max(rows, 1)), tile_px=side, token_px=1, with_thumbnail=rows > 0)
        for size, (rows, columns) in zip(sizes, _tile_grids(tensors), strict=True)
    ]


def token_inputs(vision: Vision, input_ids: Int[Tensor, " token"]) -> dict[str, Tensor]:
    """None: text and image tokens are treated alike."""
    return {}


def forward_inputs(model: Any, tensors: Sequence[ImageTensors], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tiles of the batch as those of one list: the model puts them in place in the order of the tokens."""
    tiles = [entry["pixel_values"] for entry in tensors if entry]
    return {"pixel_values": torch.cat(tiles, dim=1)} if tiles else {}


def _tile_grids(tensors: ImageTensors) -> list[tuple[int, int]]:
    """(rows, columns) of tiles of each image."""
    return list(zip(tensors["rows"].tolist(), tensors["cols"].tolist(), strict=True))


def tile_tokens(model_config: Any) -> int:
    """Tokens along one side of a tile: patches of `scale_factor` rows and columns are put into one."""
    vision_config = model_config.vision_config
    return int(vision_config.image_size) // int(vision_config.patch_size) // int(model_config.scale_factor)
