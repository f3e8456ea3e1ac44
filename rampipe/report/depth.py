"""The section of the depth: in which layers the heads retrieve, for image needles and for text needles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rampipe.report import figures
from rampipe.report.depth_profile import DepthProfile, depth_profile
from rampipe.report.drawn import Drawn, drawn
from rampipe.report.evidence_kinds import Kind, KindMeans
from rampipe.report.numbers import counted, number
from rampipe.report.ranked import Ranked


@dataclass(frozen=True, slots=True)
class Depth:
    """`missing`: why there is none, or empty. columns, rows: the figure as a table, one text per column."""

    missing: str = ""
    sentences: tuple[str, ...] = ()
    figures: tuple[Drawn, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def depth_section(ranked: Ranked | None, kinds: Mapping[Kind, KindMeans]) -> Depth:
    """Both kinds where the run has both, else all samples together."""
    if ranked is None:
        return Depth("No ranking yet, so no layers to compare: run `python -m jobs.rank RUN` first.")
    if ranked.overall.first is None:
        return Depth("No head has a value of this metric in this run.")
    overall = depth_profile(ranked.overall.grid, name="all samples")
    of_kinds = [depth_profile(kinds[kind].grid, name=f"{kind} needles") for kind in kinds]
    profiles = of_kinds if len(of_kinds) > 1 else [overall]
    figure = drawn(
        "depth",
        lambda theme: figures.depth(profiles, metric=ranked.metric, theme=theme),
        alt=f"Largest and mean {ranked.metric} and number of CoRe heads by layer: "
        + "; ".join(_deepest(profile) for profile in profiles),
        caption="Layer 0 is nearest to the input. CoRe heads are counted in the samples that the colour stands for, "
        "as many as the ranking has. A gap is a layer without a value.",
    )
    return Depth(
        sentences=tuple(_sentence(profile) for profile in [overall, *of_kinds]),
        figures=(figure,),
        columns=("layer", *(f"{name}, {profile.name}" for profile in profiles for name in ("largest", "mean", "CoRe"))),
        rows=_rows(profiles),
    )


def _rows(profiles: Sequence[DepthProfile]) -> tuple[tuple[str, ...], ...]:
    rows = list[tuple[str, ...]]()
    for layer in range(len(profiles[0].mean)):
        cells = [str(layer)]
        for profile in profiles:
            head = profile.first[layer]
            largest = number(profile.largest[layer]) + ("" if head is None else f" ({head})")
            cells += [largest, number(profile.mean[layer]), str(profile.num_core[layer])]
        rows.append(tuple(cells))
    return tuple(rows)


def _sentence(profile: DepthProfile) -> str:
    total, num_layers = int(profile.num_core.sum()), len(profile.num_core)
    return (
        f"{profile.name[0].upper()}{profile.name[1:]}: {profile.num_deep} of {counted(total, 'CoRe head')} "
        f"{'lies' if profile.num_deep == 1 else 'lie'} outside the first third of the {num_layers} layers."
    )


def _deepest(profile: DepthProfile) -> str:
    known = [(value, head) for value, head in zip(profile.largest, profile.first, strict=True) if head is not None]
    return f"{profile.name} largest in layer {max(known)[1].layer}" if known else f"{profile.name} without a value"
