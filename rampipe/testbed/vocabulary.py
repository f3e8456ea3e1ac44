"""The words of the testbed's tokenizer, one token a word, and the ids that training needs."""

from __future__ import annotations

from rampipe.testbed.domains import DOMAINS, QUESTION_TEMPLATES

PAD = "<|pad|>"
UNKNOWN = "<unk>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"
IMAGE = "<|image_pad|>"
VIDEO = "<|video_pad|>"
END = "<|end|>"
SPECIAL_TOKENS = (PAD, UNKNOWN, USER, ASSISTANT, VISION_START, VISION_END, IMAGE, VIDEO, END)

VOCABULARY_SIZE = 320
"""Rows of the embedding. The tokenizer has fewer words: the rest is never produced."""


def list_words() -> tuple[str, ...]:
    """Every word of the tokenizer in the order of its ids: special tokens, digits, template words, keys by domain."""
    digits = [str(digit) for digit in range(10)]
    template_words = [word for template in QUESTION_TEMPLATES for word in template.split()[:-1]]
    keys = [word for domain in DOMAINS for word in domain.key_words]
    return tuple(dict.fromkeys([*SPECIAL_TOKENS, *digits, *template_words, *keys]))


TOKEN_IDS: dict[str, int] = {word: index for index, word in enumerate(list_words())}
FIRST_DIGIT_ID = TOKEN_IDS["0"]
FIRST_KEY_ID = TOKEN_IDS[DOMAINS[0].key_words[0]]
"""Keys are the last 256 ids, domain by domain: key k of domain d is FIRST_KEY_ID + 64 d + k."""
