"""A few rows of every public dataset in the layout of its published files, by the name of its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.unit.data import (
    test_boundingdocs,
    test_mlvu,
    test_mm_niah,
    test_mmdocir,
    test_mmlongbench,
    test_mmlongbench_doc,
    test_mmneedle,
    test_plain_vqa,
    test_refcocog,
    test_slidevqa,
    test_slidevqa_hub,
    test_vidstg,
    test_visual_cot,
    test_visual_haystacks,
    test_vstar_bench,
)
from tests.unit.data.made import picture, put, put_table

COUNT = 3


def _listed(folder: Path, **keys: object) -> None:
    """The light files of the slices of receipts, handwriting and documents."""
    put(folder / "images/a.png", picture(112, 84))
    line = {
        "split": "eval",
        "images": ["images/a.png"],
        "image_sizes": [[112, 84]],
        "question": "What?",
        "answer": "7",
        "evidence_boxes": [{"image": 0, "xyxy": [28.0, 0.0, 56.0, 28.0], "text": "7"}],
        "evidence_policy": "exact",
        **keys,
    }
    put(folder / "samples.jsonl", [{**line, "sample_id": f"line-{number}"} for number in range(COUNT)])


def _plain(name: str) -> Callable[[Path], object]:
    file, row = test_plain_vqa.FILES[name], test_plain_vqa.row
    ids = {"docvqa": ("questionId", str), "textvqa": ("question_id", int)}.get(name, ("type", str))
    rows = [row(name, **{ids[0]: ids[1](number)}) for number in range(COUNT)]
    return lambda folder: put_table(folder / file, rows)


def _mm_niah(folder: Path) -> None:
    meta = {"needles": ["The key is oak."]}
    test_mm_niah.write(folder, [test_mm_niah.line(number, meta=meta) for number in range(COUNT)])


LAYOUTS: Mapping[str, Callable[[Path], object]] = {
    "refcocog": lambda folder: put_table(
        folder / "data/val-0.parquet", [test_refcocog.row(number) for number in range(COUNT)]
    ),
    "mmdocir": lambda folder: test_mmdocir.write(
        folder, second=[test_mmdocir.question(page_id=[2], layout_mapping=[])]
    ),
    "mm_niah": _mm_niah,
    "mmlongbench": lambda folder: test_mmlongbench.write(folder, [test_mmlongbench.image_line()] * COUNT),
    "visual_haystacks": lambda folder: test_visual_haystacks.write(
        folder, [test_visual_haystacks.entry(number) for number in range(COUNT)]
    ),
    "mmneedle": lambda folder: test_mmneedle.write(folder, [test_mmneedle.entry(number) for number in range(COUNT)]),
    "slidevqa": lambda folder: test_slidevqa.write(folder, [test_slidevqa.line(number) for number in range(COUNT)]),
    "slidevqa_hub": lambda folder: put_table(
        folder / "data/val-0.parquet", [test_slidevqa_hub.row(number) for number in range(COUNT)]
    ),
    "mmlongbench_doc": lambda folder: test_mmlongbench_doc.write(folder, [test_mmlongbench_doc.entry()] * COUNT),
    "vstar_bench": lambda folder: test_vstar_bench.write(folder, [test_vstar_bench.annotation()] * COUNT),
    "visual_cot": lambda folder: test_visual_cot.write(folder, [test_visual_cot.line()] * COUNT),
    "boundingdocs": lambda folder: put_table(
        folder / "data/test-0.parquet",
        [test_boundingdocs.row({f"FATURA/{number}": test_boundingdocs.asked() for number in range(COUNT)})],
    ),
    "vidstg": lambda folder: test_vidstg.write(folder, [test_vidstg.annotation()] * COUNT, split="val"),
    "mlvu": lambda folder: test_mlvu.write(folder, [test_mlvu.entry()] * COUNT),
    "docvqa": _plain("docvqa"),
    "chartqa": _plain("chartqa"),
    "textvqa": _plain("textvqa"),
    "sroie": lambda folder: _listed(folder, field="total"),
    "omniglot_needle": _listed,
    "longdocurl": lambda folder: _listed(folder, evidence_policy="region", evidence_images=[0]),
}
"""Each writes its files into a folder."""

SPLITS: Mapping[str, str] = {
    **dict.fromkeys(("sroie", "omniglot_needle", "longdocurl"), "eval"),
    **dict.fromkeys(("refcocog", "mm_niah", "vidstg", "slidevqa_hub"), "val"),
    **dict.fromkeys(("docvqa", "textvqa"), "validation"),
    **dict.fromkeys(("boundingdocs", "chartqa"), "test"),
    **dict.fromkeys(("mmdocir", "mmlongbench_doc"), "evaluation"),
    "mmlongbench": "mm_niah_retrieval-image/32k",
    "visual_haystacks": "single_needle/VHs_small/7",
    "mmneedle": "2_2_2",
    "slidevqa": "dev",
    "vstar_bench": "direct_attributes",
    "visual_cot": "docvqa",
    "mlvu": "1_plotQA",
}
"""What each source calls the split that its rows are in."""
