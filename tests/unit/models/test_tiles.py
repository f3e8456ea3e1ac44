"""Tiles: order of tiles, order within them, and the thumbnail."""

from __future__ import annotations

import torch

from rampipe.models.tiles import tile_boxes


def test_tile_after_tile_then_thumbnail():
    boxes = tile_boxes((120, 40), (3, 1), tile_px=8, token_px=4, with_thumbnail=True)
    assert len(boxes) == 4 * 4
    assert boxes[:4].tolist() == [[0, 0, 20, 20], [20, 0, 40, 20], [0, 20, 20, 40], [20, 20, 40, 40]]
    assert boxes[4].tolist() == [40, 0, 60, 20]
    assert boxes[-4:].tolist() == [[0, 0, 60, 20], [60, 0, 120, 20], [0, 20, 60, 40], [60, 20, 120, 40]]


def test_tiles_in_columns_are_other_boxes():
    wide = tile_boxes((60, 60), (2, 1), tile_px=8, token_px=4, with_thumbnail=False)
    tall = tile_boxes((60, 60), (1, 2), tile_px=8, token_px=4, with_thumbnail=False)
    assert wide[4].tolist() == [30, 0, 45, 30]
    assert tall[4].tolist() == [0, 30, 30, 45]


def test_every_view_shows_the_whole_image():
    boxes = tile_boxes((90, 70), (2, 3), tile_px=16, token_px=4, with_thumbnail=True)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    torch.testing.assert_close(areas[:-16].sum(), torch.tensor(90 * 70.0, dtype=torch.float64))
    torch.testing.assert_close(areas[-16:].sum(), areas[:-16].sum())
