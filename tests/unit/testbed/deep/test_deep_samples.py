"""The deep generator: repeatable bytes, held-out needles, and evidence that is exactly the item or the entry."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rampipe.errors import ConfigError
from rampipe.tables.shards import samples_table
from rampipe.testbed.deep.dataset import write_deep_samples
from rampipe.testbed.deep.layout import BLOCKS
from rampipe.testbed.deep.samples import SIZES, TASKS, generate_deep_samples
from rampipe.testbed.deep.words import QUESTIONS, SEPARATOR, TOKEN_IDS
from rampipe.testbed.domains import DOMAIN_NAMES, DOMAINS, is_held_out
from rampipe.testbed.drawing import NUM_VARIANTS, TILE_PX, key_tiles, value_tiles
from rampipe.testbed.haystack import CELL_PX, STRIP_TOP_PX
from rampipe.types import Sample

KEY_WORDS = {word: (domain, key) for domain in DOMAINS for key, word in enumerate(domain.key_words)}


def take(task: str, **changes: object) -> list[Sample]:
    arguments = {"split": "eval", "count": 3, "seed": 7, "size": "short", **changes}
    return list(generate_deep_samples(task=task, **arguments))  # pyright: ignore


def asked_word(sample: Sample) -> str:
    (word,) = (word for word in sample.question.split() if word in KEY_WORDS)
    return word


def nearest(tile: np.ndarray, candidates: np.ndarray) -> int:
    """Index of the candidate that is nearest after fitting the brightness."""
    flat = candidates.reshape(len(candidates), -1).astype(np.float64)
    target = tile.astype(np.float64).ravel()
    brightness = np.clip(flat @ target / (flat**2).sum(axis=1), 0.75, 1.15)
    return int(((target - brightness[:, None] * np.minimum(flat, 255 / 1.1)) ** 2).sum(axis=1).argmin())


def read_cell(pixels: np.ndarray, domain: int, corner: tuple[int, int]) -> tuple[str, str]:
    """Reads the key word and the value of a visual token without a network."""
    x0, y0 = corner
    strip = pixels[y0 + STRIP_TOP_PX : y0 + STRIP_TOP_PX + TILE_PX, x0 : x0 + CELL_PX]
    keys, values = key_tiles(domain), value_tiles(domain)
    key = nearest(strip[:, :TILE_PX], keys.reshape(-1, TILE_PX, TILE_PX, 3)) // NUM_VARIANTS
    value = nearest(strip[:, TILE_PX:], values.reshape(-1, TILE_PX, TILE_PX, 3)) // NUM_VARIANTS
    first, second = divmod(value, values.shape[0])
    return DOMAINS[domain].key_words[key], f"{first} {second}"


@pytest.mark.parametrize("task", TASKS)
def test_same_arguments_give_the_same_samples_and_other_seeds_do_not(task: str) -> None:
    assert take(task) == take(task)
    assert take(task, count=2) == take(task)[:2]
    for other in (take(task, seed=8), take(task, split="select"), take(task, size="medium")):
        images = {image.bytes for sample in other for image in sample.images}
        assert images.isdisjoint({image.bytes for sample in take(task) for image in sample.images})


@pytest.mark.parametrize("task", DOMAIN_NAMES)
def test_every_token_of_the_box_shows_the_key_and_the_answer_and_no_other_token_does(task: str) -> None:
    domain = DOMAIN_NAMES.index(task)
    for sample in take(task, count=4):
        (evidence,) = sample.evidence
        x0, y0, x1, y1 = (int(edge) for edge in evidence.box or ())
        assert ((y1 - y0) // CELL_PX, (x1 - x0) // CELL_PX) in BLOCKS[1:]
        pixels = np.asarray(Image.open(io.BytesIO(sample.images[evidence.image or 0].bytes or b"")))
        rows, columns = range(0, pixels.shape[0], CELL_PX), range(0, pixels.shape[1], CELL_PX)
        shows = {(x, y) for x in columns for y in rows if read_cell(pixels, domain, (x, y))[0] == asked_word(sample)}
        assert shows == {(x, y) for x in range(x0, x1, CELL_PX) for y in range(y0, y1, CELL_PX)}
        assert {read_cell(pixels, domain, corner)[1] for corner in shows} == {sample.answers[0]}


def test_the_text_span_is_the_entry_and_the_key_is_nowhere_else() -> None:
    for sample in take("text", count=8):
        (evidence,) = sample.evidence
        text = sample.context[evidence.part or 0].text or ""
        assert text[evidence.start : evidence.stop] == f"{sample.answers[0]} {asked_word(sample)}"
        words = [word for part in sample.context for word in (part.text or "").split()]
        assert words.count(asked_word(sample)) == 1
        assert words[3::4] == [SEPARATOR] * (len(words) // 4)


def test_the_echo_asks_for_the_key_and_has_no_evidence() -> None:
    for sample in take("echo"):
        assert sample.answers == (asked_word(sample),)
        assert (sample.images, sample.evidence) == ((), ())


@pytest.mark.parametrize("task", [*DOMAIN_NAMES, "text"])
def test_needles_of_eval_are_held_out_and_of_train_are_not(task: str) -> None:
    for split, expected in (("train", False), ("select", True), ("eval", True)):
        for sample in take(task, split=split, count=10):
            domain, key = KEY_WORDS[asked_word(sample)]
            first, second = (int(digit) for digit in sample.answers[0].split())
            assert is_held_out(domain, key, (first, second)) is expected


def test_sizes_reach_from_two_to_sixteen_images_and_from_hundreds_to_thousands_of_tokens() -> None:
    tokens: dict[str, list[int]] = {}
    images: list[int] = []
    for size in SIZES:
        for sample in take("glyph", size=size, count=12):
            heights = (Image.open(io.BytesIO(image.bytes or b"")).size for image in sample.images)
            visual = sum(width * height // CELL_PX**2 for width, height in heights)
            words = sum(len((part.text or "").split()) for part in sample.context)
            tokens.setdefault(size, []).append(visual + words + 2 * len(sample.images))
            images.append(len(sample.images))
    assert min(images) >= 2
    assert 12 <= max(images) <= 16
    assert max(tokens["short"]) < 400
    assert min(tokens["long"]) >= 2000
    assert max(tokens["long"]) < 4200


def test_questions_have_words_after_the_key_and_every_word_is_known() -> None:
    for length, kinds in QUESTIONS.items():
        for text in (text for texts in kinds for text in texts):
            words = text.split()
            assert len(words) == length
            assert all(word in TOKEN_IDS for word in words if word != "{key}")
    after = [text.split().index("{key}") + 1 < length for length, kinds in QUESTIONS.items() for text in kinds[0]]
    assert all(after)


def test_written_shards_are_the_sample_schema_and_take_turns(tmp_path: Path) -> None:
    shards = write_deep_samples(tmp_path, split="eval", count_per_task=2, seed=0, size="short")
    assert [path.name for path in shards] == ["eval-short-00000.parquet"]
    first = [next(generate_deep_samples(task=task, split="eval", count=1, seed=0, size="short")) for task in TASKS]
    assert samples_table(first).column("domain").to_pylist() == list(TASKS)


@pytest.mark.parametrize("changes", [{"split": "val"}, {"size": "huge"}])
def test_wrong_arguments_are_named(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="deep testbed"):
        take("glyph", **changes)
    with pytest.raises(ConfigError, match="glyph, receipt, chart, table, text, echo"):
        take("nothing")
