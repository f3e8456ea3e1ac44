"""The oracle of the copy score: a head that copies the needle by construction ranks first, one that only looks at it
does not, though the largest keys of both are always evidence.

Hidden states are one-hot in the token, whatever the layer: no layer adds to them. In every planted head's keys a token
has a code of its own, on pairs that RoPE hardly turns. The copying head's queries ask for the code of the next letter,
the other one's for that of the letter after next, which is in the needle too, and not yet in the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers

from rampipe.config import RankConfig
from rampipe.heads.rank import Ranking, rank_run
from rampipe.tables.shards import write_shards
from rampipe.types import ContextPart, Evidence, HeadId, Sample
from tests.families.parts import vocab_size, write_tokenizer
from tests.families.text import MARKUP, TEMPLATE
from tests.local_run import finished_run, make_config

COPYING, LOOKING = HeadId(1, 2), HeadId(0, 1)
LAYERS, HEADS, KV_HEADS, HEAD_DIM, HIDDEN = 2, 4, 2, 64, 272
SLOW = [*range(12, 32), *range(44, 64)]
"""Dimensions of a head that RoPE turns by less than 1e-5 a position."""
NEEDLE_LETTERS = 9
ANSWER = slice(1, 6)
CAPTURE = ["capture.queries=['question','answer']", "capture.peer_scores=true", "capture.unit_samples=8"]


def write_copying(folder: Path) -> None:
    """A Llama of two layers with tokens of one byte."""
    ids = write_tokenizer(folder, MARKUP, template=TEMPLATE, bos="<s>")
    special = {"bos_token_id": ids["<s>"], "eos_token_id": ids["<|end|>"], "pad_token_id": ids["<pad>"]}
    config = transformers.LlamaConfig(
        vocab_size=vocab_size(ids), hidden_size=HIDDEN, intermediate_size=8, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=HEAD_DIM, max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 1e15}, tie_word_embeddings=False, **special,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    codes = torch.nn.functional.normalize(torch.randn(config.vocab_size, len(SLOW)), dim=1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    letters = tokenizer("ABCDEFGHIJKLMNOPQRSTUVWXYZ", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(config.vocab_size, HIDDEN))
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        for head, ahead in ((COPYING, 1), (LOOKING, 2)):
            asked = torch.zeros_like(codes)
            asked[letters[:-ahead]] = codes[letters[ahead:]]
            attention = model.model.layers[head.layer].self_attn
            plant(attention.k_proj.weight, head.head * KV_HEADS // HEADS, codes)
            plant(attention.q_proj.weight, head.head, 3.0 * asked)
    model.save_pretrained(folder)


def plant(weight: torch.Tensor, head: int, of_token: torch.Tensor) -> None:
    """Make these the head's vectors of each token."""
    part = weight[head * HEAD_DIM : (head + 1) * HEAD_DIM]
    part.zero_()
    part[SLOW, : len(of_token)] = of_token.T


def text_needles(count: int, *, copied: bool) -> Iterator[Sample]:
    """Letters in a haystack of digits; the answer is some of them in order, or of others that are nowhere."""
    for index in range(count):
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[index % 8 :]
        needle, elsewhere = letters[:NEEDLE_LETTERS], letters[NEEDLE_LETTERS : 2 * NEEDLE_LETTERS]
        digits = f"{7 ** (index + 20)} {3 ** (index + 40)}"
        start = 5 + 3 * index
        yield Sample(
            sample_id=f"needle-{index}",
            domain="letters",
            context=(ContextPart(kind="text", text=digits[:start] + needle + digits[start:]),),
            images=(),
            question="which letters?",
            answers=((needle if copied else elsewhere)[ANSWER],),
            choices=None,
            evidence=(Evidence(kind="text", part=0, start=start, stop=start + NEEDLE_LETTERS),),
        )


def ranked(folder: Path, *, metric: str, copied: bool = True) -> Ranking:
    write_copying(folder / "model")
    write_shards(text_needles(8, copied=copied), folder / "samples", split="eval")
    config = make_config(model=folder / "model", data=folder / "samples", out=folder / "runs", overrides=CAPTURE)
    return rank_run(finished_run(config), RankConfig(metric=metric, k_frac=1 / 8, bootstrap_samples=50))


def means(ranking: Ranking) -> dict[HeadId, float]:
    overall = ranking.ranking.filter(scope="overall")
    return {HeadId(row["layer"], row["head"]): row["mean"] for row in overall.iter_rows(named=True)}


def test_the_copying_head_ranks_first(tmp_path: Path) -> None:
    ranking = ranked(tmp_path, metric="copy_score")
    found = means(ranking)
    assert set(ranking.core_heads()) == {COPYING}
    # The row before the answer holds no letter that could be followed: all of its tokens but the first are copied.
    assert found[COPYING] == pytest.approx((ANSWER.stop - ANSWER.start - 1) / NEEDLE_LETTERS, abs=1e-6)
    assert max(mean for head, mean in found.items() if head != COPYING) < 0.1


def test_without_the_comparison_of_tokens_both_are_alike(tmp_path: Path) -> None:
    """What `copy_score` adds to `hit_answer`."""
    found = means(ranked(tmp_path, metric="hit_answer"))
    assert found[COPYING] == pytest.approx(found[LOOKING]) and found[LOOKING] >= 0.8


def test_an_answer_that_is_not_in_the_needle_is_not_copied(tmp_path: Path) -> None:
    found = means(ranked(tmp_path, metric="copy_score", copied=False))
    assert set(found.values()) == {0.0}
