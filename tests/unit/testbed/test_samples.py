"""The generator: repeatable bytes, a held-out rule that holds, and evidence that is exactly the needle's cell."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from rampipe.errors import ConfigError
from rampipe.testbed.domains import DOMAIN_NAMES, DOMAINS, NUM_KEYS, QUESTION_TEMPLATES, Domain, is_held_out
from rampipe.testbed.drawing import NUM_VARIANTS, TILE_PX, key_tiles, value_tiles
from rampipe.testbed.haystack import CELL_PX, STRIP_TOP_PX, held_out_mask, make_haystack
from rampipe.testbed.samples import generate_samples
from rampipe.types import Sample

domains = pytest.mark.parametrize("name", DOMAIN_NAMES)


def take(name: str, **changes: object) -> list[Sample]:
    arguments = {"split": "eval", "count": 3, "seed": 7, "grid": (3, 4), **changes}
    return list(generate_samples(domain=name, **arguments))  # pyright: ignore


def digits_of(sample: Sample) -> tuple[int, int]:
    first, second = sample.answers[0].split()
    return int(first), int(second)


def key_of(domain: Domain, sample: Sample) -> int:
    return domain.key_words.index(sample.question.split()[-1])


def nearest(tile: np.ndarray, candidates: np.ndarray) -> int:
    """Index of the candidate that is nearest after fitting the brightness."""
    flat = candidates.reshape(len(candidates), -1).astype(np.float64)
    target = tile.astype(np.float64).ravel()
    brightness = np.clip(flat @ target / (flat**2).sum(axis=1), 0.75, 1.15)
    return int(((target - brightness[:, None] * np.minimum(flat, 255 / 1.1)) ** 2).sum(axis=1).argmin())


def read_cell(sample: Sample, name: str, corner: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """Reads a cell without a network: the nearest drawn key tile and value tile."""
    index = DOMAIN_NAMES.index(name)
    pixels = np.asarray(Image.open(io.BytesIO(sample.images[0].bytes or b"")))
    x0, y0 = corner
    strip = pixels[y0 + STRIP_TOP_PX : y0 + STRIP_TOP_PX + TILE_PX, x0 : x0 + CELL_PX]
    keys, values = key_tiles(index), value_tiles(index)
    key = nearest(strip[:, :TILE_PX], keys.reshape(-1, TILE_PX, TILE_PX, 3)) // NUM_VARIANTS
    value = nearest(strip[:, TILE_PX:], values.reshape(-1, TILE_PX, TILE_PX, 3)) // NUM_VARIANTS
    first, second = divmod(value, values.shape[0])
    return key, (first, second)


@domains
def test_same_arguments_give_the_same_bytes_and_other_seeds_do_not(name: str) -> None:
    assert take(name) == take(name)
    assert take(name, count=2) == take(name)[:2]
    for other in (take(name, seed=8), take(name, split="select"), take(name, split="train")):
        images = {sample.images[0].bytes for sample in other}
        assert images.isdisjoint({sample.images[0].bytes for sample in take(name)})


def test_domains_do_not_share_key_words() -> None:
    words = [word for domain in DOMAINS for word in domain.key_words]
    assert len(words) == len(set(words)) == NUM_KEYS * len(DOMAINS)
    assert all(" " not in word for word in words)


@domains
def test_needles_of_eval_are_held_out_and_of_train_are_not(name: str) -> None:
    domain = DOMAINS[DOMAIN_NAMES.index(name)]
    for split, expected in (("train", False), ("select", True), ("eval", True)):
        for sample in take(name, split=split, count=20):
            assert is_held_out(domain, key_of(domain, sample), digits_of(sample)) is expected


@domains
def test_the_rule_holds_out_one_pair_in_m(name: str) -> None:
    domain = DOMAINS[DOMAIN_NAMES.index(name)]
    digits = [(a, b) for a in range(domain.num_digits) for b in range(domain.num_digits)]
    held_out = [is_held_out(domain, key, pair) for key in range(NUM_KEYS) for pair in digits]
    assert sum(held_out) * domain.held_out_modulus == pytest.approx(len(held_out), rel=0.05)
    keys, pairs = np.repeat(np.arange(NUM_KEYS), len(digits)), np.tile(digits, (NUM_KEYS, 1))
    assert held_out_mask(domain, keys, pairs).tolist() == held_out


@domains
def test_no_cell_of_a_training_image_shows_a_held_out_pair(name: str) -> None:
    index = DOMAIN_NAMES.index(name)
    rng = np.random.default_rng(0)
    stacks = [make_haystack(index, (8, 8), needle=None, rng=rng) for _ in range(10)]
    assert not any(held_out_mask(DOMAINS[index], stack.keys, stack.digits).any() for stack in stacks)
    with_needle = make_haystack(index, (8, 8), needle=5, rng=rng)
    assert np.flatnonzero(held_out_mask(DOMAINS[index], with_needle.keys, with_needle.digits)).tolist() == [5]
    assert sorted(with_needle.keys) == list(range(NUM_KEYS))


@domains
def test_the_box_is_the_cell_that_shows_the_key_and_the_answer(name: str) -> None:
    domain = DOMAINS[DOMAIN_NAMES.index(name)]
    for sample in take(name, count=12):
        x0, y0, x1, y1 = sample.evidence[0].box or (0.0, 0.0, 0.0, 0.0)
        assert (x1 - x0, y1 - y0) == (CELL_PX, CELL_PX)
        asked = (key_of(domain, sample), digits_of(sample))
        corners = [(column * CELL_PX, row * CELL_PX) for row in range(3) for column in range(4)]
        shows = [corner for corner in corners if read_cell(sample, name, corner) == asked]
        assert shows == [(x0, y0)]


def test_questions_end_with_the_key_and_are_equally_long() -> None:
    assert {len(template.split()) for template in QUESTION_TEMPLATES} == {6}
    assert all(template.endswith("{key}") for template in QUESTION_TEMPLATES)
    assert len({" ".join(sample.question.split()[:-1]) for sample in take("glyph", count=30)}) == 3


@pytest.mark.parametrize("changes", [{"split": "val"}, {"grid": (9, 8)}, {"grid": (1, 4)}])
def test_wrong_arguments_are_named(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="testbed"):
        take("glyph", **changes)
    with pytest.raises(ConfigError, match="glyph, receipt, chart, table"):
        take("nothing")
