"""What counts as the right answer."""

from __future__ import annotations

import pytest

from rampipe.trials.score import is_correct, normalise
from rampipe.types import Sample


def sample_with(*answers, choices=None):
    return Sample("a", "d", (), (), "q", answers, choices, ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The  Answer.\n", "the answer"),
        ("“Straße”!", "strasse"),
        ("(B).", "b"),
        ("-5", "-5"),
        (".5", ".5"),
        ("5%", "5%"),
        ("$5.", "$5"),
        ("1,3", "1,3"),
        ("...", "..."),
        ("", ""),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected
    assert normalise(normalise(text)) == expected


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("Paris.", ("paris",), True),
        ("Lyon", ("Paris", " LYON "), True),
        ("It is Paris", ("Paris",), False),
        ("-5", ("5",), False),
        ("5", ("5%",), False),
        ("", ("...",), False),
        ("", ("",), False),
        ("Paris", (), False),
    ],
)
def test_exact_match_of_any_answer(prediction, answers, expected):
    assert is_correct(prediction, sample_with(*answers)) is expected


@pytest.mark.parametrize("answer", ["Paris", "B", "(b)"])
@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("B", True),
        ("(b).", True),
        ("B. Paris", True),
        ("b) paris", True),
        ("Paris", True),
        ("A", False),
        ("B. Rome", False),
        ("Bordeaux", False),
        ("Rome", False),
    ],
)
def test_choice_by_letter_or_text(prediction, expected, answer):
    assert is_correct(prediction, sample_with(answer, choices=("Rome", "Paris"))) is expected


def test_text_of_a_choice_wins_over_its_letter():
    """The answer `A` is the text of choice B here: the letter of choice A is wrong."""
    sample = sample_with("A", choices=("C", "A"))
    assert is_correct("A", sample)
    assert is_correct("B", sample)
    assert not is_correct("C", sample)


def test_letters_mean_nothing_without_choices():
    assert not is_correct("A", sample_with("Paris"))
