"""Lists beside the ranking of a run: `<run>/lists/<name>.json`, which the report compares with it."""

from __future__ import annotations

import re

import polars as pl

from rampipe.errors import ConfigError
from rampipe.heads.classes import num_core
from rampipe.heads.lists import format_by_id, plain
from rampipe.heads.lists.head_list import HeadList, HeadShape, from_means
from rampipe.heads.scopes import OVERALL
from rampipe.tables.derived import read_stage
from rampipe.tables.storage import Storage
from rampipe.types import HeadId

FOLDER = "lists"


def import_list(storage: Storage, data: bytes, *, format_id: str, name: str, kv_heads: int | None = None) -> HeadList:
    """Check a list against the ranked model, and put it beside the ranking; one of that name is replaced.

    Raises ConfigError for a run without a ranking, or a list that does not fit its model.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise ConfigError(f"--name {name!r}: allowed are letters, digits, '_', '-' and '.'.")
    means = ranked_means(storage)
    found = format_by_id(format_id).parse(data, shape_of(means, kv_heads=kv_heads))
    strangers = [head for head in found.scores if head not in means]
    if strangers:
        raise ConfigError(
            f"head list: {len(strangers)} of its {len(found.scores)} heads were not ranked, first {strangers[0]}. "
            "The run must be of the same model, with all layers captured."
        )
    storage.replace(f"{FOLDER}/{name}.json", plain.render(found))
    return found


def export_list(storage: Storage, *, format_id: str, kv_heads: int | None = None) -> bytes:
    """The overall ranking of a run as a file. Heads without a mean are left out. Raises ConfigError."""
    means = ranked_means(storage)
    known = {head: mean for head, mean in means.items() if mean is not None}
    return format_by_id(format_id).render(from_means(known, shape_of(means, kv_heads=kv_heads)))


def ranked_means(storage: Storage) -> dict[HeadId, float | None]:
    """Mean of every ranked head, over all samples; null without one. Raises ConfigError without a ranking."""
    tables = read_stage(storage, "ranking")
    if not tables:
        raise ConfigError(f"run {storage.uri}: it is not ranked. Run `python -m jobs.rank RUN` first.")
    rows = pl.DataFrame(tables["ranking"]).filter(pl.col("scope") == OVERALL).sort("layer", "head")
    return {HeadId(layer, head): mean for layer, head, mean in rows.select("layer", "head", "mean").iter_rows()}


def shape_of(heads: dict[HeadId, float | None], *, kv_heads: int | None = None) -> HeadShape:
    """Layers and heads up to the last that was ranked."""
    return HeadShape(max(head.layer for head in heads) + 1, max(head.head for head in heads) + 1, kv_heads)


def first_heads(found: HeadList, *, k_frac: float) -> list[HeadId]:
    """The best share of the model's heads: all listed ones when the list is shorter."""
    return found.ordered()[: num_core(k_frac, found.shape.num_layers * found.shape.num_heads)]
