"""What heads with full attention gain and what they keep, in sentences whose numbers stand in the tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import polars as pl

from rampipe.heads.scopes import OVERALL
from rampipe.heads.speed.reduce import Timed
from rampipe.heads.verdict.spread import spread_of_controls
from rampipe.heads.verdict.words import arm_name, control_effect, count, percent

Row = dict[str, Any]


def speed_lines(speed: pl.DataFrame, accuracy: pl.DataFrame, *, untimed: Collection[Timed] = ()) -> list[str]:
    """One sentence for each arm that is no control, at each length; what could not be timed is said first.

    E.g. "full attention for top 10 % alone: prefill 1.84 x dense at 16,384 tokens (5 repetitions, 1.80 to 1.92),
    decode 1.90 x (1.85 to 1.93), cache 31 % of dense, peak memory 80 % of dense; 10 % of query heads, 30 % of
    kv_heads; accuracy 0.98 of 0.98; kept instead, random costs at least 0.41 (3 draws)". accuracy: of the judge, for
    the draws that were not timed.
    """
    draws = spread_of_controls(accuracy).filter(pl.col("scope") == OVERALL)
    lines = [f"NOT TIMED: {arm_id} at {context_tokens:,} tokens" for arm_id, context_tokens in sorted(untimed)]
    for device in speed.get_column("device").unique(maintain_order=True):
        lines.append(
            f"timed on {device}, each repetition beside dense attention in the same process; above 1 is faster"
        )
    for row in speed.filter(pl.col("control_of").is_null()).iter_rows(named=True):
        of_arm = draws.filter(pl.col("arm_id") == row["arm_id"])
        parts = [f"{kept_name(row)}: {gain(row)}", sparsity(row), quality(row), *map(instead, of_arm.to_dicts())]
        lines.append("; ".join(parts))
    return lines


def kept_name(row: Row) -> str:
    """The arm of a row of speed.v1 in words."""
    return arm_name({**row, "kind": "keep"})


def gain(row: Row) -> str:
    """Prefill, decode, cache and memory against dense."""
    predicted = row["cache_bytes"] == row["predicted_cache_bytes"]
    surprise = "" if predicted else f" ({row['cache_bytes']:,} bytes, {row['predicted_cache_bytes']:,} were predicted)"
    memory = "not measured" if row["peak_ratio"] is None else f"{_whole(1 / row['peak_ratio'])} of dense"
    return (
        f"prefill {row['prefill_ratio']:.2f} x dense at {row['context_tokens']:,} tokens "
        f"({', '.join([count(row['num_repeats'], 'repetition'), *_range(row, 'prefill')])}), "
        f"decode {row['decode_ratio']:.2f} x dense{''.join(f' ({told})' for told in _range(row, 'decode'))}, "
        f"cache {_whole(1 / row['cache_ratio'])} of dense{surprise}, peak memory {memory}"
    )


def sparsity(row: Row) -> str:
    """Both shares: with grouped queries a few query heads may keep many kv_heads."""
    kv_heads = "unknown" if row["kv_head_frac"] is None else percent(row["kv_head_frac"])
    return f"{percent(row['query_head_frac'])} of query heads, {kv_heads} of kv_heads"


def quality(row: Row) -> str:
    """Accuracy over the answers that were judged with and without the restriction."""
    if row["difference"] is None:
        return "accuracy unknown"
    return f"accuracy {row['base_accuracy'] + row['difference']:.2f} of {row['base_accuracy']:.2f}"


def instead(draw: Row) -> str:
    """What as many random heads cost; a row of spread.v1."""
    return f"kept instead, {control_effect(draw, 'keep')}"


def _range(row: Row, name: str) -> Iterator[str]:
    """Smallest and largest of several ratios, with a word where they are no gain."""
    low, high = row[f"{name}_ratio_low"], row[f"{name}_ratio_high"]
    doubt = "" if low > 1.0 else "slower" if high < 1.0 else "not clearly faster"
    if row["num_repeats"] > 1:
        yield f"{low:.2f} to {high:.2f}" + (f"; {doubt}" if doubt else "")
    elif doubt:
        yield doubt


def _whole(share: float) -> str:
    """Two significant digits below 10 %, else whole percents."""
    return f"{share * 100:.2g} %" if share < 0.1 else f"{share * 100:.0f} %"
