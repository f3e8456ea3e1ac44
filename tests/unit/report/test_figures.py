"""What the figures show, read back from their pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from rampipe.errors import DataError
from rampipe.report import figures
from rampipe.report.attention_map import Example, attention_map, evidence_picture
from rampipe.report.curve import ConcentrationCurve
from rampipe.report.heatmap import HeadGrid, draw_heatmap, head_grid, shared_norm
from rampipe.report.style import DARK, LIGHT, drawable, new_figure
from rampipe.types import HeadId
from tests.unit.report.made_run import receipt


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def cell_colours(grid: HeadGrid) -> np.ndarray:
    """RGB at the centre of every cell, as drawn."""
    figure = new_figure(6.0, 5.0, theme=LIGHT)
    axes = figure.add_subplot()
    draw_heatmap(axes, grid, title="t", norm=shared_norm([grid]), theme=LIGHT)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    rows, columns = np.indices(grid.values.shape)
    places = axes.transData.transform(np.stack([columns.ravel(), rows.ravel()], axis=1)).astype(int)
    return image[image.shape[0] - 1 - places[:, 1], places[:, 0]].reshape(*grid.values.shape, 3)


@pytest.mark.parametrize("planted", [HeadId(1, 4), HeadId(6, 0)])
def test_the_planted_head_is_the_brightest_cell(planted: HeadId) -> None:
    values = [
        (HeadId(layer, head), 0.9 if HeadId(layer, head) == planted else 0.05)
        for layer in range(8)
        for head in range(6)
    ]
    brightness = cell_colours(head_grid(values, core=[planted])).sum(axis=-1)
    assert np.unravel_index(brightness.argmax(), brightness.shape) == (planted.layer, planted.head)


def test_a_head_without_a_value_does_not_look_like_a_low_one() -> None:
    colours = cell_colours(head_grid([(HeadId(0, 0), None), (HeadId(0, 1), 0.0), (HeadId(1, 1), 1.0)], core=[]))
    assert tuple(colours[0, 0]) == tuple(colours[1, 0]) == (0xE9, 0xEB, 0xED)
    assert abs(colours[0, 1] - colours[0, 0]).sum() > 200


def test_a_metric_with_negative_values_is_centred() -> None:
    norm = shared_norm([head_grid([(HeadId(0, 0), -0.1), (HeadId(0, 1), 0.4)], core=[])])
    assert (norm.vmin, norm.vmax) == (-0.4, 0.4)
    assert shared_norm([head_grid([(HeadId(0, 0), 0.2)], core=[])]).vmin == 0.0


def test_the_half_mark_is_where_the_table_says() -> None:
    """The marker's pixels move with num_heads_half."""
    cumulative = np.cumsum(np.full(10, 0.1))
    centres = []
    for half in (2, 8):
        image = pixels(figures.concentration(ConcentrationCurve(cumulative, 10, half), metric="ram", theme=LIGHT))
        accent = (abs(image - np.array([0xD5, 0x5E, 0x00])).sum(axis=-1) < 12).sum(axis=0)
        centres.append(int(accent.argmax()) / image.shape[1])
    assert 0.1 < centres[0] < 0.4
    assert 0.6 < centres[1] < 0.95


def test_headline_is_wide_and_equal_inputs_give_equal_bytes() -> None:
    grid = head_grid([(HeadId(layer, head), layer * head / 20) for layer in range(4) for head in range(5)], core=[])
    curve = ConcentrationCurve(np.linspace(0.1, 1, 20), 20, 9)
    first, second = (
        figures.headline(grid, curve, metric="ram", title="$50 \\frac on 長い", theme=LIGHT) for _ in range(2)
    )
    assert first == second
    height, width, _ = pixels(first).shape
    assert width > 2 * height
    assert first != figures.headline(grid, curve, metric="ram", title="another", theme=LIGHT)


def test_themes_differ_in_paper() -> None:
    values = np.array([[1.0, 0.25], [0.25, 1.0]])
    corners = [pixels(figures.overlap(values, names=["a", "b"], measure="m", theme=t))[0, 0] for t in (LIGHT, DARK)]
    assert corners[0].sum() > 700
    assert corners[1].sum() < 120


def test_text_that_the_font_lacks_is_replaced() -> None:
    assert drawable("ram µ 長\x00") == "ram µ □□"


def example(**changes: object) -> Example:
    boxes = np.array([[x, y, x + 56.0, y + 56.0] for y in range(0, 336, 56) for x in range(0, 448, 56)])
    weights = np.zeros(len(boxes))
    weights[11] = 0.4
    fields: dict[str, object] = {
        "sample_id": "s", "domain": "d", "question": "q", "answer": "a", "prediction": None, "head": HeadId(3, 1),
        "query": "question", "image": 0, "image_png": receipt(), "evidence_boxes": np.array([[280.0, 224, 392, 280]]),
        "token_boxes": boxes, "weights": weights, "mass_evidence": 0.42,
    }  # fmt: skip
    return Example(**{**fields, **changes})  # type: ignore[arg-type]


def test_heat_is_on_the_token_and_the_box_on_the_evidence() -> None:
    image = pixels(attention_map(example()))
    height, width, _ = image.shape
    orange = (image[..., 0] - image[..., 2]) > 90
    rows, columns = np.nonzero(orange)
    # Token 11 is column 3, row 1 of an 8 x 6 grid; the title takes the strip above the image.
    assert 3 / 8 - 0.02 < columns.mean() / width - 1 / 16 < 3 / 8 + 0.02
    blue = (image[..., 2] - image[..., 0]) > 90
    assert columns.max() < np.nonzero(blue)[1].max()
    assert rows.max() < np.nonzero(blue)[0].min()
    assert not ((pixels(attention_map(example(weights=np.zeros(48))))[..., 0] - image[..., 2]) > 250).any()
    assert height < width * 1.1


def test_what_was_asked_about_keeps_its_colours() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (100, 100), (200, 30, 40)).save(buffer, "PNG")
    shown = example(image_png=buffer.getvalue(), evidence_boxes=np.array([[40.0, 40.0, 60.0, 60.0]]))
    coloured, grey = pixels(evidence_picture(shown)), pixels(attention_map(shown))
    corner, middle = coloured[10, 10, :3], coloured[len(coloured) // 2, len(coloured) // 2, :3]
    assert np.abs(corner.astype(int) - (200, 30, 40)).max() <= 8
    assert np.abs(middle.astype(int) - (200, 30, 40)).max() <= 8  # inside the outline: no heat either
    assert not (coloured == grey).all()
    blue = np.abs(coloured[..., :3].astype(int) - (0, 114, 178)).max(axis=-1) <= 8
    assert blue.any()


def test_fewer_colours_are_not_seen() -> None:
    """Grey noise asks for every grey; the strongest token, one of 48, must keep what is under it."""
    noise = np.random.default_rng(0).integers(0, 256, (336, 448), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    png = attention_map(example(image_png=buffer.getvalue()))
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "P"
    token = pixels(png)[70:130, 210:265]
    exact = 0.15 * (77 + noise[57:107, 173:218] * (178 / 255)) + 0.85 * 0xD5
    assert abs(token[..., 0].mean() - exact.mean()) < 2
    assert np.ptp(token[..., 0]) > 0.7 * np.ptp(exact)


def test_the_title_names_head_and_mass() -> None:
    assert example().title == "head 3.1 · 42.0% on the evidence"
    assert example(mass_evidence=None).title == "head 3.1 · 40.0% on this image"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_png": b"GIF89a"}, "cannot be decoded"),
        ({"weights": np.zeros(3)}, r"shapes \(\(3,\), \(48, 4\), \(1, 4\)\)"),
        ({"weights": np.full(48, np.nan)}, "finite"),
        ({"evidence_boxes": np.zeros((1, 3))}, "evidence boxes"),
    ],
)
def test_a_wrong_example_says_what_is_wrong(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        attention_map(example(**changes))
