"""Words, questions and answers of the deep testbed: the small testbed's words, some more, and text after the key."""

from __future__ import annotations

from rampipe.testbed.domains import DOMAINS, NUM_KEYS
from rampipe.testbed.vocabulary import ASSISTANT, END, FIRST_DIGIT_ID, FIRST_KEY_ID
from rampipe.testbed.vocabulary import TOKEN_IDS as SMALL_TOKEN_IDS

SEPARATOR = ";"
"""Ends an entry of a text list: `4 7 red-star ;`."""
LOOKUP, ECHO = 0, 1
"""What is asked: the value that belongs to a key, wherever it is, or only the key itself."""

QUESTIONS: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = {
    6: (
        ("what is next to {key} ?", "please read entry of {key} ?"),
        ("please repeat the word {key} ?", "what is the name {key} ?"),
    ),
    7: (
        ("which digits belong to the {key} ?", "what is next to {key} here ?"),
        ("what is the name of {key} ?", "please tell me the word {key}  ?".replace("  ", " ")),
    ),
    8: (
        ("please read the entry of {key} for me", "which digits belong to {key} in the pages"),
        ("tell me the word {key} and nothing else", "please repeat the name {key} for me ?"),
    ),
}
"""Templates by number of words, then by LOOKUP or ECHO: training packs questions of one length side by side."""
LENGTHS = tuple(QUESTIONS)
MOST_WORDS_AFTER_KEY = max(
    len(text.split("{key}")[1].split()) for kinds in QUESTIONS.values() for texts in kinds for text in texts
)

SUFFIX = (END, ASSISTANT)
"""What the chat template puts between the message and the answer."""
NUM_ALL_KEYS = len(DOMAINS) * NUM_KEYS


def list_words() -> tuple[str, ...]:
    """Every word in the order of its ids. The small testbed's words keep theirs, so its embeddings stay valid."""
    templates = [text for kinds in QUESTIONS.values() for texts in kinds for text in texts]
    words = [word for text in templates for word in text.split() if word != "{key}"]
    return tuple(dict.fromkeys([*SMALL_TOKEN_IDS, *words, SEPARATOR]))


TOKEN_IDS: dict[str, int] = {word: index for index, word in enumerate(list_words())}


def key_word(key: int) -> str:
    """The word of a key, counted over all domains: domain d has keys 64 d to 64 d + 63."""
    return DOMAINS[key // NUM_KEYS].key_words[key % NUM_KEYS]


def key_id(key: int) -> int:
    """The token of a key."""
    return FIRST_KEY_ID + key


def digit_id(digit: int) -> int:
    """The token of a digit."""
    return FIRST_DIGIT_ID + digit
