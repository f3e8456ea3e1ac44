"""The words of the page, for readers who meet them the first time."""

from __future__ import annotations

GLOSSARY: tuple[tuple[str, str], ...] = (
    (
        "Head",
        "A query head of the language model, named layer.head, both counted from zero. With grouped-query attention "
        "several heads share one key-value head.",
    ),
    ("Evidence", "The part of the prompt that answers the question: pixel boxes, whole images or text, as tokens."),
    ("Haystack", "The rest of the context."),
    (
        "Query rows",
        "The positions whose attention is read: the tokens of the question, the last prompt token, or the positions "
        "that predict the reference answer.",
    ),
    (
        "Retrieval Attention Mass (ram)",
        "The share of attention that the question's rows give to all evidence tokens, after softmax: 0 for none, "
        "1 for all of it.",
    ),
    ("CoRe head", "A head among the first by mean metric; the share of heads that count is k_frac of the ranking."),
    ("Contextual head", "Not CoRe, and gives most of its attention to visual tokens outside the evidence."),
    (
        "Arm",
        "One way to run the model on all evaluated samples: which heads are touched, and how. The base touches none.",
    ),
    (
        "Full attention",
        "A head that sees the whole context. Heads without it see the first tokens, a recent window and, unless "
        "configured otherwise, all text; dense attention is full attention for every head.",
    ),
    (
        "Random draw",
        "As many heads as an arm has, drawn from all others, or with as many in every layer (layer-matched): what any "
        "heads would do.",
    ),
    ("Positive mass", "The sum of all positive means: shares of it say how concentrated retrieval is in few heads."),
    (
        "Interval",
        "Bootstrap over contexts: samples that share a context are drawn together, since they are not independent.",
    ),
    ("Selection probability", "Share of the bootstrap resamples in which the head is a CoRe head."),
    (
        "Split-half reliability",
        "Agreement of the rankings of two random halves of the samples: 1 when more samples would change nothing.",
    ),
    ("Jaccard index", "Heads in both sets over heads in either: 0 for none shared, 1 for the same set."),
    (
        "Fingerprint",
        "Hash of everything that changes numbers: weights, tokenizer, data, precision, kernel, plan. Runs with equal "
        "fingerprints are repetitions.",
    ),
)
