"""Any-resolution boxes against the models' own unpadding and shrinking, with coordinates as features."""

from __future__ import annotations

import math

import pytest
import torch
from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape, unpad_image

from rampipe.models.anyres import Tiling, base_boxes, count_tiles, stitched_boxes
from rampipe.models.axis import patch_spans

CANVASES = [[48, 48], [48, 96], [96, 48], [96, 96], [144, 48], [48, 144], [144, 144], [192, 192], [192, 96]]
SIZES = [(100, 50), (50, 100), (300, 40), (31, 222), (64, 64), (7, 5), (203, 190)]
EXACT = Tiling(CANVASES, tile_px=48, patch_px=8)


def _centres(size, tiling):
    """(x, y) of every kept token as the model's own functions move it, in pixels of the stored image."""
    width, height = size
    tiles_y, tiles_x = get_anyres_image_grid_shape((height, width), tiling.canvases, tiling.tile_px)
    scale = min(tiles_x * tiling.tile_px / width, tiles_y * tiling.tile_px / height)
    axes = []
    for stored, tiles in ((width, tiles_x), (height, tiles_y)):
        shown = min(math.ceil(stored * scale), tiles * tiling.tile_px)
        middle = patch_spans(tiles, tiling.tile_px, tiling.patch_px).mean(dim=1)
        axes.append((middle - (tiles * tiling.tile_px - shown) // 2) * stored / shown)
    y, x = torch.meshgrid(axes[1], axes[0], indexing="ij")
    features = unpad_image(torch.stack([x, y]), (height, width))
    if tiling.max_tiles is not None:
        _, rows, columns = features.shape
        ratio = math.sqrt(rows * columns / (tiling.max_tiles * (tiling.tile_px // tiling.patch_px) ** 2))
        if ratio > 1.1:
            shrunk = [int(rows // ratio), int(columns // ratio)]
            features = torch.nn.functional.interpolate(features[None], shrunk, mode="bilinear")[0]
    return features


@pytest.mark.parametrize("size", SIZES)
def test_stitched_boxes_hold_what_the_model_keeps(size):
    centres = _centres(size, EXACT)
    boxes = stitched_boxes(size, EXACT).reshape(centres.shape[1], centres.shape[2] + 1, 4)
    assert boxes[:, -1].isnan().all()
    x, y = centres
    cells = boxes[:, :-1]
    is_inside = (x >= 0) & (x <= size[0]) & (y >= 0) & (y <= size[1])
    shown = ~cells.isnan().any(dim=-1)
    assert bool(shown[is_inside].all())
    held = (cells[..., 0] <= x) & (x <= cells[..., 2]) & (cells[..., 1] <= y) & (y <= cells[..., 3])
    assert bool(held[is_inside].all())
    whole = cells[..., 0].gt(0) & cells[..., 2].lt(size[0]) & cells[..., 1].gt(0) & cells[..., 3].lt(size[1])
    torch.testing.assert_close(cells[..., ::2].mean(dim=-1)[whole], x[whole])
    torch.testing.assert_close(cells[..., 1::2].mean(dim=-1)[whole], y[whole])


@pytest.mark.parametrize("size", SIZES)
def test_stitched_boxes_lose_no_pixel_but_at_the_rim(size):
    """Unpadding by whole patches may cut less than one patch from each side; inside there is no gap."""
    boxes = stitched_boxes(size, EXACT)
    boxes = boxes[~boxes.isnan().any(dim=1)]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    start, stop = boxes[:, :2].amin(dim=0), boxes[:, 2:].amax(dim=0)
    assert float(areas.sum()) == pytest.approx(float((stop - start).prod()))
    tiles_y, tiles_x = get_anyres_image_grid_shape(size[::-1], CANVASES, 48)
    patch = 8 / min(tiles_x * 48 / size[0], tiles_y * 48 / size[1])
    lost = torch.stack([start, torch.tensor(size) - stop])
    assert float(lost.max()) < patch
    assert (lost.amax(dim=0) > 0).sum() <= 1


def test_transposed_image_has_other_boxes():
    one, other = stitched_boxes((100, 50), EXACT), stitched_boxes((50, 100), EXACT)
    assert one.nan_to_num(0).amax(dim=0).tolist()[2:] == [100, 50]
    assert other.nan_to_num(0).amax(dim=0).tolist()[2:] == [50, 100]


def test_shrunken_tokens_span_what_they_are_blended_from():
    tiling = Tiling(CANVASES, tile_px=48, patch_px=8, max_tiles=4)
    size = (192, 192)
    boxes = stitched_boxes(size, tiling)
    assert len(boxes) == 12 * (12 + 1)
    centres = _centres(size, tiling)
    assert centres.shape[1:] == (12, 12)
    cells = boxes.reshape(12, 13, 4)[:, :-1]
    assert bool(((cells[..., 0] < centres[0]) & (centres[0] < cells[..., 2])).all())


def test_pixels_behind_the_last_whole_patch_are_in_no_token():
    tiling = Tiling([[20, 40]], tile_px=20, patch_px=8)
    boxes = stitched_boxes((40, 20), tiling)
    assert boxes[:4, 0].tolist() == [0, 8, 20, 28]
    assert boxes[:4, 2].tolist() == [8, 16, 28, 36]
    assert float(base_boxes((40, 20), tiling)[:, 2].max()) == 32
    assert count_tiles((40, 20), tiling) == 3
