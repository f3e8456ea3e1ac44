"""Datasets: each turns files into samples. Adding one is a file here and a line in `SOURCES`."""

from __future__ import annotations

import difflib

from rampipe.config import DataConfig
from rampipe.data.longdocurl import LongDocUrlSource
from rampipe.data.native import NativeSource
from rampipe.data.omniglot_needle import OmniglotNeedleSource
from rampipe.data.source import ReadResult, Shard, Source
from rampipe.data.sroie import SroieSource
from rampipe.errors import ConfigError

SOURCES: tuple[type[Source], ...] = (NativeSource, SroieSource, OmniglotNeedleSource, LongDocUrlSource)

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
