"""Prompts: the spans of the message's parts in tokens, and batches that do not change results."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from transformers.utils import chat_template_utils

from rampipe.config import EvidenceConfig
from rampipe.errors import SampleError
from rampipe.models import text
from rampipe.models.features import process_images
from rampipe.models.images import decode_images
from rampipe.models.prompts import collate, encode
from rampipe.types import NUM_SINK_TOKENS, REGIONS, ContextPart, Evidence

RULES = EvidenceConfig()


def _encode(replica, sample, **options):
    return encode(replica, sample, decode_images(sample, max_pixels=10**6), evidence=RULES, **options)


def _decode(replica, prompt, positions):
    return replica.tokenizer.decode(prompt.input_ids[list(positions)])


def _count(prompt, region):
    return int((prompt.regions == REGIONS.index(region)).sum())


def test_ids_are_those_of_the_chat_template(tiny, make_sample):
    sample = make_sample("picture of", 0, "the dog", 1)
    prompt = _encode(tiny, sample)
    content = [{"type": "text", "text": "picture of"}, {"type": "image"}, {"type": "text", "text": "the dog"}]
    content += [{"type": "image"}, {"type": "text", "text": sample.question}]
    text = tiny.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    first, second, third = text.split("<|image_pad|>")
    text = first + "<|image_pad|>" * (4 * 2) + second + "<|image_pad|>" * (3 * 3) + third
    assert prompt.input_ids.tolist() == tiny.tokenizer(text)["input_ids"]
    assert prompt.input_ids.tolist() != _encode(tiny, make_sample("picture of", 1, "the dog", 0)).input_ids.tolist()


def test_question_is_found_where_its_text_occurs_elsewhere(tiny, make_sample):
    sample = make_sample("where is the cat ?", 0, "where is the cat ?")
    last = _encode(tiny, sample)
    first = _encode(tiny, sample, order="question_first")
    for prompt in (last, first):
        assert _decode(tiny, prompt, prompt.query_positions("question")) == "where is the cat ?"
    assert last.input_ids[: first.question.stop].tolist() == first.input_ids[: first.question.stop].tolist()
    assert last.question.start > int(last.visual_positions.max()) > first.question.stop
    assert last.query_positions("last") == range(len(last.input_ids) - 1, len(last.input_ids))


def test_null_question_shares_the_context(tiny, make_sample):
    sample = make_sample("picture of", 0)
    features = process_images(tiny, sample, decode_images(sample, max_pixels=10**6))
    real = encode(tiny, sample, features, evidence=RULES)
    null = encode(tiny, sample, features, question="N/A", evidence=RULES)
    start = real.question.start
    assert null.question.start == start
    assert real.input_ids[:start].tolist() == null.input_ids[:start].tolist()
    assert _decode(tiny, null, null.query_positions("question")) == "N / A"


def test_question_glued_to_the_context_is_flagged(tiny, make_sample):
    glued, apart = _encode(tiny, make_sample("the dog")), _encode(tiny, make_sample("the dog\n"))
    assert "question_merged" in glued.flags
    assert "question_merged" not in apart.flags


def test_answer_rows_predict_the_answer(tiny, make_sample):
    sample = make_sample(0)
    bare, prompt = _encode(tiny, sample), _encode(tiny, sample, answer="yes no")
    assert prompt.input_ids[: prompt.num_prompt_tokens].tolist() == bare.input_ids.tolist()
    rows = prompt.query_positions("answer")
    assert _decode(tiny, prompt, [row + 1 for row in rows]) == "yes no"
    assert _count(prompt, "answer") == 2
    assert _count(bare, "answer") == len(bare.query_positions("answer")) == 0


def test_trimming_template_keeps_spans(tiny, make_sample):
    tokenizer = tiny.tokenizer
    original = tokenizer.chat_template
    sample = make_sample("  red dog . \n", question=" where ? ", evidence=(Evidence("text", part=0, start=6, stop=9),))
    try:
        tokenizer.chat_template = original.replace("content['text'] }}", "content['text'] | trim }}")
        prompt = _encode(tiny, sample)
        tokenizer.chat_template = original.replace("content['text'] }}", "content['text'] | upper }}")
        with pytest.raises(SampleError) as caught:
            _encode(tiny, sample)
    finally:
        tokenizer.chat_template = original
    assert caught.value.code == "template_unsupported"
    assert _decode(tiny, prompt, prompt.query_positions("question")) == "where ?"
    is_evidence = prompt.regions == REGIONS.index("evidence")
    assert _decode(tiny, prompt, is_evidence.nonzero().flatten().tolist()) == "dog"


def test_a_template_that_writes_the_date_outlives_midnight(tiny, make_sample, monkeypatch):
    tokenizer, sample = tiny.tokenizer, make_sample("picture of", 0)
    monkeypatch.setattr(tokenizer, "chat_template", "{{ strftime_now('where %d is') }}" + tokenizer.chat_template)
    for day in (3, 4):
        clock = SimpleNamespace(now=lambda day=day: datetime(2026, 1, day, tzinfo=UTC))
        monkeypatch.setattr(chat_template_utils, "datetime", clock)
        prompt = _encode(tiny, sample)
        assert _decode(tiny, prompt, range(3)) == "where [UNK] is"
        assert _decode(tiny, prompt, prompt.query_positions("question")) == sample.question


@pytest.mark.fault("B14")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"question": "  "}, "question_empty"),
        ({"question": "where <|image_pad|> ?"}, "control_token"),
        ({"question": "where " * 600}, "context_too_long"),
        ({"context": (ContextPart("video", frames=(0, 7)),)}, "image_index"),
        ({"context": (ContextPart("video", frames=()),)}, "image_index"),
        ({"context": (ContextPart("video", frames=(0, 0)),)}, "video_unsupported"),
        ({"context": (ContextPart("image", image=7),)}, "image_index"),
    ],
)
def test_unusable_samples_are_named(tiny, make_sample, change, code):
    sample = dataclasses.replace(make_sample(0), **change)
    with pytest.raises(SampleError, match="s/1") as caught:
        _encode(tiny, sample)
    assert (caught.value.code, caught.value.stage) == (code, "encode")


def test_models_of_text_refuse_images(tiny, make_sample):
    replica = dataclasses.replace(tiny, family=text, vision=None, visual_token_ids=())
    with pytest.raises(SampleError, match="reads text only") as caught:
        process_images(replica, make_sample("red", 0), [Image.new("RGB", (64, 32))] * 2)
    assert caught.value.code == "image_unsupported"


def test_images_that_the_processor_refuses_are_named(tiny, make_sample):
    sample = make_sample(0)
    images = [Image.new("RGB", (5000, 8)), Image.new("RGB", (8, 8))]
    with pytest.raises(SampleError) as caught:
        encode(tiny, sample, images, evidence=RULES)
    assert caught.value.code == "image_unsupported"


def test_real_tokenizer_maps_characters(tiny, make_sample, qwen_tokenizer_folder):
    """Byte-level tokens: several of one character, and merges over the border of question and context."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(qwen_tokenizer_folder)
    tokenizer.chat_template = tiny.tokenizer.chat_template
    replica = dataclasses.replace(tiny, tokenizer=tokenizer, visual_token_ids=(151655,))
    text = "Total: 12.50 € — naïve 東京 𝔘nicode"
    start = text.index("東")
    evidence = (Evidence("text", part=0, start=start, stop=start + 2),)
    sample = make_sample(text, 1, question="e\u0301t\u00e9 の合計は?", evidence=evidence)
    prompt = _encode(replica, sample)
    assert _decode(replica, prompt, prompt.query_positions("question")) == "été の合計は?"
    chosen = (prompt.regions == REGIONS.index("evidence")).nonzero().flatten().tolist()
    assert _decode(replica, prompt, chosen).strip() == "東京"
    assert len(prompt.visual_positions) == 9


def test_padding_changes_nothing(tiny, make_sample):
    """One batch of unequal prompts, with and without images, gives the hidden states of each alone."""
    samples = [make_sample("red", 0, "dog", 1), make_sample(1), make_sample("the dog is red")]
    prompts = [_encode(tiny, sample) for sample in samples]
    batch = collate(tiny, prompts)
    together = tiny.model(**batch.inputs).logits
    for row, prompt in enumerate(prompts):
        single = collate(tiny, [prompt])
        assert single.offsets == (0,)
        alone = tiny.model(**single.inputs).logits[0]
        torch.testing.assert_close(together[row, batch.offsets[row] :], alone, atol=1e-5, rtol=1e-5)
        assert batch.regions[row, batch.offsets[row] :].tolist() == prompt.regions.tolist()
        assert (batch.regions[row, : batch.offsets[row]] == -1).all()
    wrong = {**batch.inputs, "attention_mask": torch.ones_like(batch.inputs["attention_mask"])}
    shortest = max(range(3), key=lambda row: batch.offsets[row])
    assert (tiny.model(**wrong).logits[shortest, -1] - together[shortest, -1]).abs().max() > 1e-4


def test_positions_are_those_of_the_model_and_stateless(tiny, make_sample):
    prompt, text_only = _encode(tiny, make_sample(0, "dog", 1)), _encode(tiny, make_sample("the dog"))
    inputs = collate(tiny, [prompt]).inputs
    assert inputs["position_ids"].shape == (3, 1, len(prompt.input_ids))
    own = tiny.model(**{name: tensor for name, tensor in inputs.items() if name != "position_ids"}).logits
    torch.testing.assert_close(tiny.model(**inputs).logits, own, atol=0, rtol=0)
    flat = {**inputs, "position_ids": torch.arange(len(prompt.input_ids)).expand(3, 1, -1)}
    assert not torch.equal(tiny.model(**flat).logits, own)
    positions = collate(tiny, [text_only]).inputs["position_ids"]
    assert torch.equal(positions[0, 0], torch.arange(len(text_only.input_ids)))


def test_generation_continues_every_prompt_of_a_batch(tiny, make_sample):
    prompts = [_encode(tiny, sample) for sample in (make_sample("red", 0), make_sample(1), make_sample("the dog"))]
    options = {"max_new_tokens": 4, "do_sample": False}
    together = tiny.model.generate(**collate(tiny, prompts).inputs, **options)[:, -4:]
    for row, prompt in enumerate(prompts):
        alone = tiny.model.generate(**collate(tiny, [prompt]).inputs, **options)[0, -4:]
        assert together[row].tolist() == alone.tolist()


def test_regions_are_a_partition(tiny, make_sample):
    evidence = (Evidence("box", image=0, box=(0.0, 0.0, 32.0, 16.0)),)
    prompt = _encode(tiny, make_sample("picture of", 0, 1, evidence=evidence), answer="yes")
    assert [_count(prompt, name) for name in ("evidence", "evidence_image_rest", "other_visual")] == [2, 6, 9]
    assert _count(prompt, "sink") == NUM_SINK_TOKENS
    assert _count(prompt, "question") == 5
    assert sum(_count(prompt, name) for name in REGIONS) == len(prompt.regions)
