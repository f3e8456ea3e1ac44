"""What the configuration asks of a plan, in the same words for ablation and for speed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

from rampipe.config import AblateConfig, SpeedConfig
from rampipe.errors import ConfigError
from rampipe.heads.groups import RankedGroups
from rampipe.heads.strategies import strategy_by_id
from rampipe.heads.strategies.strategy import Request, Strategy
from rampipe.tables.arms import ArmKind, ArmMode, ArmPositions, ChosenPer
from rampipe.types import HeadId

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Grid:
    """The product of everything that is varied. seeds: of each kind of random draw. idle: as of `Request`."""

    kind: ArmKind
    targets: tuple[Strategy, ...]
    controls: tuple[Strategy, ...]
    fracs: tuple[float, ...]
    bands: tuple[tuple[float, float], ...]
    masses: tuple[float, ...]
    listed: tuple[HeadId, ...]
    seeds: tuple[int, ...]
    per: tuple[ChosenPer, ...]
    scopes: tuple[str, ...]
    modes: tuple[ArmMode, ...]
    positions: tuple[ArmPositions, ...]
    idle: frozenset[HeadId] | None = None

    def requests(self, strategy: Strategy, ranked: RankedGroups) -> Iterator[tuple[str, Request]]:
        """The requests of a strategy that is no control, each with its name: `top-0.05`.

        A fraction of 0 is the base for an ablation. For `keep`, 0 restricts all heads and 1 none, whatever the
        strategy: they are arms of `top` alone.
        """
        request = Request(ranked, idle=self.idle)
        if strategy.LEVELS == "fracs":
            for frac in self.fracs:
                is_usual = frac > 0.0 if self.kind == "ablate" else 0.0 < frac < 1.0
                if is_usual or (self.kind == "keep" and strategy.ID == "top"):
                    yield f"{strategy.ID}-{spell_frac(frac)}", replace(request, frac=frac)
        elif strategy.LEVELS == "bands":
            for start, stop in self.bands:
                name = f"{strategy.ID}-{spell_frac(start)}-{spell_frac(stop)}"
                yield name, replace(request, start_frac=start, frac=round(stop - start, 12))
        elif strategy.LEVELS == "masses":
            for mass in self.masses:
                yield f"{strategy.ID}-{spell_frac(mass)}", replace(request, frac=mass)
        else:
            yield strategy.ID, replace(request, listed=self.listed)


def ablate_grid(config: AblateConfig) -> Grid:
    """The arms of the `ablate` job. Raises ConfigError for strategies that lack what they choose by."""
    return _grid(
        config, "ablate", "ablate", fracs=config.fracs, modes=tuple(config.modes), positions=tuple(config.positions)
    )


def speed_grid(config: SpeedConfig) -> Grid:
    """The arms of the `speed` job: the heads that keep full attention."""
    return _grid(config, "speed", "keep", fracs=config.full_fracs, modes=("hybrid",), positions=("all",))


def spell_frac(frac: float) -> str:
    """One spelling of a number, without exponent: 0.1, 0.05, 1."""
    return format(Decimal(repr(frac)).normalize(), "f")


def _grid(
    config: AblateConfig | SpeedConfig,
    section: str,
    kind: ArmKind,
    *,
    fracs: tuple[float, ...],
    modes: tuple[ArmMode, ...],
    positions: tuple[ArmPositions, ...],
) -> Grid:
    strategies = [strategy_by_id(name) for name in _distinct(f"{section}.strategies", config.strategies)]
    targets = tuple(strategy for strategy in strategies if strategy.LEVELS != "target")
    controls = tuple(strategy for strategy in strategies if strategy.LEVELS == "target")
    if controls and not any(strategy.CONTROLLED for strategy in targets):
        raise ConfigError(
            f"{section}.strategies = {list(config.strategies)}: {controls[0].ID!r} has nothing to control. "
            "Add 'top', 'cumulative_mass' or 'from_list'."
        )
    for strategy in targets:
        if strategy.LEVELS in ("bands", "masses", "heads") and not getattr(config, strategy.LEVELS):
            raise ConfigError(
                f"{section}.{strategy.LEVELS} is empty, and strategy {strategy.ID!r} chooses by it. Set it."
            )
    for start, stop in config.bands:
        if start >= stop:
            raise ConfigError(f"{section}.bands: [{start:g}, {stop:g}] is no interval. Write the smaller rank first.")
    return Grid(
        kind=kind,
        targets=targets,
        controls=controls,
        fracs=_distinct(f"{section}.fracs", fracs),
        bands=_distinct(f"{section}.bands", config.bands),
        masses=_distinct(f"{section}.masses", config.masses),
        listed=tuple(_parse_head(text, section) for text in _distinct(f"{section}.heads", config.heads)),
        seeds=tuple(range(config.seeds)),
        per=_distinct(f"{section}.per", config.per),
        scopes=_distinct(f"{section}.scopes", config.scopes),
        modes=_distinct(f"{section}.modes", modes),
        positions=_distinct(f"{section}.positions", positions),
    )


def _parse_head(text: str, section: str) -> HeadId:
    found = re.fullmatch(r"(\d+)\.(\d+)", text)
    if found is None:
        raise ConfigError(f'{section}.heads: {text!r} is not "layer.head", zero-based, e.g. "12.3".')
    return HeadId(int(found[1]), int(found[2]))


def _distinct(key: str, values: tuple[Value, ...]) -> tuple[Value, ...]:
    if len(set(values)) != len(values):
        raise ConfigError(f"{key} = {list(values)}: one of them stands there twice. Name each once.")
    return values
