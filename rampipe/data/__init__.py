"""Datasets: each turns files into samples. Adding one is a file here and a line in `SOURCES`."""

from __future__ import annotations

import difflib

from rampipe.config import DataConfig
from rampipe.data.boundingdocs import BoundingDocsSource
from rampipe.data.chartqa import ChartQaSource
from rampipe.data.docvqa import DocVqaSource
from rampipe.data.longdocurl import LongDocUrlSource
from rampipe.data.mlvu import MlvuSource
from rampipe.data.mm_niah import MmNiahSource
from rampipe.data.mmdocir import MmDocIrSource
from rampipe.data.mmlongbench import MmLongBenchSource
from rampipe.data.mmlongbench_doc import MmLongBenchDocSource
from rampipe.data.mmneedle import MmNeedleSource
from rampipe.data.native import NativeSource
from rampipe.data.omniglot_needle import OmniglotNeedleSource
from rampipe.data.refcocog import RefCocogSource
from rampipe.data.slidevqa import SlideVqaSource
from rampipe.data.slidevqa_hub import SlideVqaHubSource
from rampipe.data.source import ReadResult, Shard, Source
from rampipe.data.sroie import SroieSource
from rampipe.data.textvqa import TextVqaSource
from rampipe.data.vidstg import VidStgSource
from rampipe.data.visual_cot import VisualCotSource
from rampipe.data.visual_haystacks import VisualHaystacksSource
from rampipe.data.vstar_bench import VStarBenchSource
from rampipe.errors import ConfigError

SOURCES: tuple[type[Source], ...] = (
    NativeSource,
    SroieSource,
    OmniglotNeedleSource,
    LongDocUrlSource,
    RefCocogSource,
    MmDocIrSource,
    MmNiahSource,
    MmLongBenchSource,
    VisualHaystacksSource,
    MmNeedleSource,
    SlideVqaSource,
    SlideVqaHubSource,
    MmLongBenchDocSource,
    VStarBenchSource,
    VisualCotSource,
    BoundingDocsSource,
    VidStgSource,
    MlvuSource,
    DocVqaSource,
    ChartQaSource,
    TextVqaSource,
)

__all__ = ["SOURCES", "ReadResult", "Shard", "Source", "open_source"]


def open_source(config: DataConfig) -> Source:
    """The dataset that `data.source` names. Touches no file yet.

    Raises ConfigError with the nearest right name.
    """
    by_name = {source.name: source for source in SOURCES}
    if config.source not in by_name:
        near = difflib.get_close_matches(config.source, by_name, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {sorted(by_name)}"
        raise ConfigError(f"data.source = {config.source!r}: no such dataset: {hint}")
    return by_name[config.source](config)
