"""Rules that compare texts: exact match, containment, ANLS and choice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rampipe.trials.scores import score_answer
from rampipe.trials.scores.anls import edit_distance
from rampipe.trials.scores.normalise import normalise
from rampipe.types import Sample

SHORT = st.text(alphabet="ab1 ", max_size=8)


def sample_with(*answers, choices=None):
    return Sample("a", "d", (), (), "q", answers, choices, ())


def judged(prediction, *answers, metric, choices=None):
    return score_answer(prediction, sample_with(*answers, choices=choices), metric=metric)


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
    ],
)
def test_exact_match_of_any_answer(prediction, answers, expected):
    assert judged(prediction, *answers, metric="exact_match").correct is expected


def test_letters_mean_nothing_without_the_rule_of_choices():
    assert judged("B", "Paris", choices=("Rome", "Paris"), metric="exact_match").correct is False
    assert judged("B", "Paris", choices=("Rome", "Paris"), metric="choice").correct is True


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("It is **Paris**, I think.", "paris", True),
        ("The total is (60.30).", "60.30", True),
        ("at 27 Jalan Dedap 13, Taman", "27, JALAN DEDAP 13", True),
        ("Parisian", "Paris", False),
        ("It is 1.5", "5", False),
        ("-5", "5", False),
        ("5%", "5", False),
        ("new york", "york new", False),
        ("Dedap", "Jalan Dedap", False),
        ("", "Paris", False),
        ("", "", False),
        ("Paris", "", False),
    ],
)
def test_containment_of_whole_words(prediction, answer, expected):
    assert judged(prediction, answer, metric="containment").correct is expected


@pytest.mark.parametrize(
    ("prediction", "answers", "score"),
    [
        ("INDAH  gift & home deco", ("Indah Gift & Home Deco",), 1.0),
        ("INDAH GIFT & H0ME DECO", ("INDAH GIFT & HOME DECO",), 1.0 - 1 / 22),
        ("abcx", ("abcd", "abcdefgh"), 0.75),
        ("abxxx", ("abcde",), 0.0),  # NL 0.6
        ("abxx", ("abcd",), 0.0),  # NL 0.5 is not under the threshold
        ("abcxx", ("abcde",), 0.6),
        ("", ("abc",), 0.0),
        ("", ("",), 0.0),
    ],
)
def test_anls_of_the_nearest_answer(prediction, answers, score):
    found = judged(prediction, *answers, metric="anls")
    assert found.score == pytest.approx(score)
    assert found.correct is (score >= 0.5)


@pytest.mark.parametrize(("first", "second", "distance"), [("kitten", "sitting", 3), ("ab", "ba", 2), ("", "abc", 3)])
def test_known_distances(first, second, distance):
    assert edit_distance(first, second) == distance


@given(SHORT, SHORT, SHORT)
def test_distance_is_a_metric(first, second, third):
    distance = edit_distance(first, second)
    assert (distance == 0) is (first == second)
    assert distance == edit_distance(second, first)
    assert abs(len(first) - len(second)) <= distance <= max(len(first), len(second))
    assert edit_distance(first, third) <= distance + edit_distance(second, third)


@given(SHORT, SHORT, st.sampled_from("ab1"))
def test_distance_grows_by_one_edit_at_most(first, second, char):
    assert edit_distance(first + char, second + char) == edit_distance(first, second)
    assert abs(edit_distance(first + char, second) - edit_distance(first, second)) <= 1


@given(SHORT, SHORT)
def test_anls_is_one_minus_the_distance_or_zero(prediction, answer):
    first, second = (" ".join(text.split()) for text in (prediction, answer))
    distance = edit_distance(first, second) / max(len(first), len(second), 1)
    expected = 1.0 - distance if first and distance < 0.5 else 0.0
    assert judged(prediction, answer, metric="anls").score == pytest.approx(expected)


@pytest.mark.parametrize("answer", ["Paris", "B", "(b)"])
@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("B", True),
        ("(b).", True),
        ("B. Paris", True),
        ("b) paris", True),
        ("B  Paris", True),
        ("Paris", True),
        ("A", False),
        ("B. Rome", False),
        ("Bordeaux", False),
        ("Rome", False),
    ],
)
def test_choice_by_letter_or_text(prediction, expected, answer):
    assert judged(prediction, answer, choices=("Rome", "Paris"), metric="choice").correct is expected


@pytest.mark.parametrize(("prediction", "expected"), [("A", True), ("B", True), ("C", False)])
def test_text_of_a_choice_wins_over_its_letter(prediction, expected):
    """The answer `A` is the text of choice B here: the letter of choice A is wrong."""
    assert judged(prediction, "A", choices=("C", "A"), metric="choice").correct is expected


def test_without_choices_there_is_no_choice_to_judge():
    found = judged("Paris", "Paris", metric="choice")
    assert (found.correct, found.score) == (None, None)
