"""Packs several questions about one context into one sequence, each blind to the others, in both prompt orders.

Every packed question is the prompt of test time: positions restart, and a question sees the context and itself. With
the question first, the context's rows see one question at random or none, so what they write down serves only it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rampipe.testbed.deep.attention import Plan, make_plan
from rampipe.testbed.deep.content import Content
from rampipe.testbed.deep.layout import ENTRY_TOKENS, ImageLayout, Layout, ListLayout, context_positions
from rampipe.testbed.deep.words import (
    ECHO,
    LENGTHS,
    LOOKUP,
    NUM_ALL_KEYS,
    QUESTIONS,
    SEPARATOR,
    SUFFIX,
    TOKEN_IDS,
    digit_id,
    key_id,
)
from rampipe.testbed.vocabulary import END, IMAGE, USER, VISION_END, VISION_START

Order = Literal["context_first", "question_first"]
Sight = Literal["all", "text", "nothing"]
"""What the rows of a part of the context see of the parts before theirs."""
NUM_ANSWER_INPUTS = 2
IGNORED = -100
KINDS = ("image", "text", "echo")
HIDDEN_QUESTION_FRAC = 0.2
"""Share of question-first batches whose context sees no question at all."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Token ids of a batch with what each question expects. kinds: index into KINDS."""

    input_ids: Int[Tensor, "context token"]
    positions: Int[Tensor, "3 1 token"]
    plan: Plan
    targets: Int[Tensor, "context question 3"]
    target_rows: Int[Tensor, "question 3"]
    kinds: Int[np.ndarray, "context question"]
    asked: Int[np.ndarray, "context question"]
    """The slot that is asked for; -1 for an echo."""
    keys: Int[np.ndarray, "context question"]
    """The key that is asked for, counted over all domains."""
    slots: Int[Tensor, " token"]
    """The slot that each token shows; -1 for none."""
    context: slice
    """Where the context's tokens are."""


def context_ids(layout: Layout, content: Content) -> list[int]:
    """Tokens of the context."""
    ids: list[int] = []
    slot = 0
    for part in layout:
        if isinstance(part, ImageLayout):
            ids += [TOKEN_IDS[VISION_START], *[TOKEN_IDS[IMAGE]] * (part.num_tokens - 2), TOKEN_IDS[VISION_END]]
        else:
            for entry in range(slot, slot + part.num_slots):
                first, second = content.digits[entry].tolist()
                ids += [digit_id(first), digit_id(second), key_id(int(content.keys[entry])), TOKEN_IDS[SEPARATOR]]
        slot += part.num_slots
    return ids


def slot_of_tokens(layout: Layout) -> list[int]:
    """The slot that each token of the context shows, -1 around images and for separators."""
    found: list[int] = []
    first = 0
    for part in layout:
        if isinstance(part, ImageLayout):
            found += [-1, *(part.slot_of_cells().ravel() + first).tolist(), -1]
        else:
            for slot in range(first, first + part.num_slots):
                found += [slot] * (ENTRY_TOKENS - 1) + [-1]
        first += part.num_slots
    return found


def draw_slots(
    layout: Layout, content: Content, kinds: Int[np.ndarray, " question"], *, rng: np.random.Generator
) -> Int[np.ndarray, " question"]:
    """A slot for each question that asks for one: different ones while they last. Without any it becomes an echo."""
    in_list = np.array([isinstance(part, ListLayout) for part in layout])[content.parts]
    asked = np.full(len(kinds), -1)
    for kind, chosen in ((0, ~in_list), (1, in_list)):
        slots = rng.permutation(np.flatnonzero(chosen & content.askable))
        wanted = np.flatnonzero(kinds == kind)
        if len(slots):
            asked[wanted] = np.resize(slots, len(wanted))
        else:
            kinds[wanted] = KINDS.index("echo")
    return asked


def draw_kinds(
    layout: Layout, num_contexts: int, num_questions: int, *, rng: np.random.Generator
) -> Int[np.ndarray, "context question"]:
    """About two thirds images; a quarter text where there is a list, the rest echoes. The first is an image."""
    has_list = any(isinstance(part, ListLayout) for part in layout)
    has_image = any(isinstance(part, ImageLayout) for part in layout)
    shares = (0.6, 0.25, 0.15) if has_list else (0.8, 0.0, 0.2)
    kinds = rng.choice(3, size=(num_contexts, num_questions), p=shares if has_image else (0.0, 0.6, 0.4))
    if has_image:
        kinds[:, 0] = KINDS.index("image")
    return kinds


def question_ids(length: int, kind: int, key: int, *, rng: np.random.Generator) -> list[int]:
    """Tokens of a random question of that many words."""
    texts = QUESTIONS[length][ECHO if kind == KINDS.index("echo") else LOOKUP]
    words = texts[int(rng.integers(len(texts)))].split()
    return [key_id(key) if word == "{key}" else TOKEN_IDS[word] for word in words]


def answer_ids(content: Content, slot: int, key: int) -> list[int]:
    """The answer's tokens, IGNORED after the end."""
    if slot < 0:
        return [key_id(key), TOKEN_IDS[END], IGNORED]
    first, second = content.digits[slot].tolist()
    return [digit_id(first), digit_id(second), TOKEN_IDS[END]]


def pack(
    layout: Layout,
    contents: Sequence[Content],
    *,
    order: Order,
    num_questions: int,
    sees: Sight,
    rng: np.random.Generator,
) -> Packed:
    """Asks num_questions of every context. sees: rows that do not see all parts cost far less."""
    kinds = draw_kinds(layout, len(contents), num_questions, rng=rng)
    lengths = rng.choice(LENGTHS, size=num_questions)
    if order == "question_first":
        lengths[:] = lengths[0]
    asked = np.stack([draw_slots(layout, c, k, rng=rng) for c, k in zip(contents, kinds, strict=True)])
    questions: list[list[list[int]]] = []
    answers: list[list[list[int]]] = []
    asked_keys = rng.integers(NUM_ALL_KEYS, size=asked.shape)
    for content, slots, own_kinds, keys in zip(contents, asked, kinds, asked_keys, strict=True):
        keys[slots >= 0] = content.keys[slots[slots >= 0]]
        drawn = zip(lengths, own_kinds, keys.tolist(), strict=True)
        questions.append([question_ids(int(length), int(kind), key, rng=rng) for length, kind, key in drawn])
        answers.append([answer_ids(content, int(slot), key) for slot, key in zip(slots, keys.tolist(), strict=True)])
    frame = _Frame.question_first if order == "question_first" else _Frame.context_first
    shape = frame(layout, [int(length) for length in lengths])
    ids = [
        shape.join(context_ids(layout, content), own, answer)
        for content, own, answer in zip(contents, questions, answers, strict=True)
    ]
    slots = torch.full((len(ids[0]),), -1)
    slots[shape.context] = torch.tensor(slot_of_tokens(layout))
    seen = int(rng.integers(num_questions)) if rng.random() >= HIDDEN_QUESTION_FRAC else -1
    return Packed(
        input_ids=torch.tensor(ids),
        positions=shape.positions[:, None],
        plan=shape.plan(layout, seen_question=seen, sees=sees, is_text=torch.tensor(ids[0]) != TOKEN_IDS[IMAGE]),
        targets=torch.tensor(answers),
        target_rows=shape.target_rows,
        kinds=kinds,
        asked=asked,
        keys=asked_keys,
        slots=slots,
        context=shape.context,
    )


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where everything of a packed sequence is. owner: the question that a token belongs to; -1 none, -2 context."""

    order: Order
    owner: Int[Tensor, " token"]
    context: slice
    positions: Int[Tensor, "3 token"]
    target_rows: Int[Tensor, "question 3"]

    @staticmethod
    def context_first(layout: Layout, lengths: Sequence[int]) -> _Frame:
        """`<user>` context, then each question with its suffix and answer."""
        context, after = context_positions(layout, 1)
        sizes = [length + len(SUFFIX) + NUM_ANSWER_INPUTS for length in lengths]
        blocks = [torch.arange(after, after + size).expand(3, -1) for size in sizes]
        owner = _owners(-1, 1) + _owners(-2, context.shape[1])
        for question, size in enumerate(sizes):
            owner += _owners(question, size)
        ends = 1 + context.shape[1] + np.cumsum(sizes)
        return _Frame(
            order="context_first",
            owner=torch.tensor(owner),
            context=slice(1, 1 + context.shape[1]),
            positions=torch.cat([torch.zeros(3, 1, dtype=torch.long), context, *blocks], dim=1),
            target_rows=torch.from_numpy(ends)[:, None] + torch.arange(-3, 0),
        )

    @staticmethod
    def question_first(layout: Layout, lengths: Sequence[int]) -> _Frame:
        """`<user>` all questions, context, then each question's suffix and answer. Questions are equally long."""
        length, num_questions = lengths[0], len(lengths)
        context, after = context_positions(layout, 1 + length)
        size = len(SUFFIX) + NUM_ANSWER_INPUTS
        start = 1 + num_questions * length
        owner = _owners(-1, 1)
        for question in range(num_questions):
            owner += _owners(question, length)
        owner += _owners(-2, context.shape[1])
        for question in range(num_questions):
            owner += _owners(question, size)
        own = torch.arange(1, 1 + length).repeat(num_questions).expand(3, -1)
        suffix = torch.arange(after, after + size).repeat(num_questions).expand(3, -1)
        ends = start + context.shape[1] + size * torch.arange(1, num_questions + 1)
        return _Frame(
            order="question_first",
            owner=torch.tensor(owner),
            context=slice(start, start + context.shape[1]),
            positions=torch.cat([torch.zeros(3, 1, dtype=torch.long), own, context, suffix], dim=1),
            target_rows=ends[:, None] + torch.arange(-3, 0),
        )

    def join(
        self, context: Sequence[int], questions: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
    ) -> list[int]:
        """The whole sequence of one context."""
        suffix = [TOKEN_IDS[word] for word in SUFFIX]
        tails = [[*suffix, answer[0], answer[1]] for answer in answers]
        if self.order == "context_first":
            blocks = [[*question, *tail] for question, tail in zip(questions, tails, strict=True)]
            return [TOKEN_IDS[USER], *context, *(token for block in blocks for token in block)]
        first = [token for question in questions for token in question]
        return [TOKEN_IDS[USER], *first, *context, *(token for tail in tails for token in tail)]

    def plan(self, layout: Layout, *, seen_question: int, sees: Sight, is_text: Bool[Tensor, " token"]) -> Plan:
        """Which row may see which key, and the blocks in which that is computed."""
        owner = self.owner
        shared = owner < 0
        allowed: Bool[Tensor, "token token"] = shared[None, :] | (owner[:, None] == owner[None, :])
        in_context = owner == -2
        allowed |= in_context[:, None] & (owner[None, :] == seen_question)
        allowed = allowed & torch.ones_like(allowed).tril()
        borders = [0, self.context.start, self.context.stop]
        if sees != "all":
            stops = self.context.start + np.cumsum([part.num_tokens for part in layout])
            part = torch.full_like(owner, -1)
            part[self.context] = torch.repeat_interleave(
                torch.arange(len(layout)), torch.tensor([part.num_tokens for part in layout])
            )
            both = in_context[:, None] & in_context[None, :]
            seen = part[:, None] == part[None, :]
            allowed &= ~both | (seen | is_text if sees == "text" else seen)
            borders = [0, self.context.start, *stops.tolist()]
        return make_plan(allowed, borders)


def _owners(owner: int, count: int) -> list[int]:
    return [owner] * count
