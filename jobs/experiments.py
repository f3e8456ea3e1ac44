"""Several runs from one file or folder: what `[experiment]` of a configuration adds to it.

[experiment]
samples = 7573                 # what --plan counts with: of the dataset,
tokens = 400                   # and of one prompt
ranked_on = "mmdocir.toml"     # file beside this one whose ranking is tried on this one's data
compare = "data.path"          # rankings that differ in this key alone are compared
[experiment.vary]
"model.path" = ["a", "b"]      # a run for each combination; --set model.path=a leaves that one
"""

from __future__ import annotations

import functools
import itertools
import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rampipe.config import AblateConfig, RunConfig, SpeedConfig, load_config
from rampipe.engine.preview import Forecast, forecast
from rampipe.engine.rates import Rates
from rampipe.errors import ConfigError
from rampipe.heads.strategies import strategy_by_id

MODELS_FILE = "models.json"


class Section(BaseModel):
    """The table `[experiment]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    samples: int = Field(ge=1)
    tokens: int | dict[str, int]
    ranked_on: str | None = None
    compare: str | None = None
    vary: dict[str, list[str]] = {}


class ModelShape(BaseModel):
    """A line of `models.json`, from the checkpoint's published configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model_type: str
    num_layers: int = Field(ge=1)
    num_heads: int = Field(ge=1)
    nominal_parameters: float = Field(gt=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Experiment:
    """One run of a file. ranked_on: the configuration whose ranking is tried, or None where this one makes its own."""

    file: Path
    section: Section
    choice: dict[str, str]
    config: RunConfig
    ranked_on: RunConfig | None

    @property
    def num_tokens(self) -> int:
        """Assumed length of a prompt. Raises ConfigError when the file gives none for this choice."""
        tokens = self.section.tokens
        if isinstance(tokens, int):
            return tokens
        found = [tokens[value] for value in self.choice.values() if value in tokens]
        if len(found) != 1:
            raise ConfigError(f"config {self.file}: experiment.tokens has no single length for {self.choice}. Add it.")
        return found[0]

    @property
    def name(self) -> str:
        """File and choices, for people."""
        return " · ".join((self.file.stem, *(value.rpartition("/")[2] for value in self.choice.values())))


def is_experiment(path: str | None) -> bool:
    """Whether a configuration is a folder of files, or a file that has several runs."""
    if path is None:
        return False
    return Path(path).is_dir() or (Path(path).is_file() and "experiment" in _read(Path(path)))


def load_experiments(path: str | Path, overrides: Sequence[str] = ()) -> list[Experiment]:
    """All runs of a file, or of a folder's files: those that make rankings first. Raises ConfigError."""
    place = Path(path)
    files = sorted(place.glob("*.toml")) if place.is_dir() else [place]
    found = [one for file in files for one in _of_file(file, overrides)]
    if not found:
        raise ConfigError(f"--config {path}: no *.toml in this folder. Pass a file or a folder of them.")
    return sorted(found, key=lambda one: one.ranked_on is not None)


def read_shapes(folder: Path) -> dict[str, ModelShape]:
    """Shapes of the models by path, for --plan without their files. Raises ConfigError."""
    try:
        content = json.loads((folder / MODELS_FILE).read_bytes())
        return {name: ModelShape.model_validate(shape) for name, shape in content.items()}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder / MODELS_FILE}: cannot be read ({type(error).__name__}). Restore it.") from None


def shape_of(one: Experiment, shapes: dict[str, ModelShape]) -> ModelShape:
    """The shape of its model. Raises ConfigError when `models.json` lacks it."""
    path = one.config.model.path
    if path not in shapes:
        raise ConfigError(f"model.path {path!r}: --plan needs its shape. Add it to {one.file.parent / MODELS_FILE}.")
    return shapes[path]


def comparisons(found: Sequence[Experiment]) -> list[list[Experiment]]:
    """Runs of one file that differ in its `compare` key alone."""
    groups: dict[tuple[str, ...], list[Experiment]] = {}
    for one in found:
        if one.section.compare is not None:
            rest = (value for key, value in one.choice.items() if key != one.section.compare)
            groups.setdefault((str(one.file), *rest), []).append(one)
    return [group for group in groups.values() if len(group) > 1]


def forecast_experiment(one: Experiment, shape: ModelShape) -> Forecast:
    """Its work, from the counts of its section: a read for the rows and one for the null question, or one an arm.

    Not counted: contexts that questions share, which are read once; generated tokens; timed repetitions.
    """
    config, num_reads = one.config, 1 + one.config.capture.calibrate
    if one.ranked_on is not None:
        num_reads = 0
    if config.ablate.split is not None:
        num_reads += count_arms(config.ablate)
    if config.speed.split is not None:
        num_reads += count_arms(config.speed)
    num_heads = 0 if one.ranked_on is not None else shape.num_layers * shape.num_heads
    counts = {"num_samples": one.section.samples, "num_tokens": one.num_tokens}
    return forecast(config, **counts, num_heads=num_heads, num_reads=num_reads)


def count_arms(config: AblateConfig | SpeedConfig) -> int:
    """Arms that a section asks for at most: some are the same set of heads, and are tried once."""
    fracs = config.fracs if isinstance(config, AblateConfig) else config.full_fracs
    sizes = {"fracs": sum(frac > 0.0 for frac in fracs), "bands": len(config.bands), "masses": len(config.masses)}
    chosen = [strategy_by_id(name) for name in config.strategies]
    levels = {strategy.ID: sizes.get(strategy.LEVELS, 1) for strategy in chosen if strategy.LEVELS != "target"}
    controlled = sum(levels[strategy.ID] for strategy in chosen if strategy.CONTROLLED and strategy.ID in levels)
    draws = config.seeds * controlled * sum(strategy.LEVELS == "target" for strategy in chosen)
    ways = len(config.per) * len(config.scopes)
    if isinstance(config, AblateConfig):
        ways *= len(config.modes) * len(config.positions)
    return 1 + ways * (sum(levels.values()) + draws)


def plan_lines(one: Experiment, shape: ModelShape, rates: Rates, *, device: str) -> list[str]:
    """What `--plan` prints of one run."""
    found = forecast_experiment(one, shape)
    model = one.config.model.path
    hours = found.hours(rates, device=device, model=model, nominal_parameters=shape.nominal_parameters)
    rows = f"{found.num_rows:,} rows, {found.num_bytes / 1e9:,.2f} GB before compression" if found.num_rows else "none"
    return [
        one.name,
        f"  units:      {found.num_units:,} of {found.num_samples:,} samples",
        f"  tokens:     {found.num_tokens / 1e6:,.0f} M, assuming {one.num_tokens:,} a prompt",
        f"  head_stats: {rows}",
        f"  GPU-hours:  {hours}",
    ]


def _of_file(file: Path, overrides: Sequence[str]) -> Iterator[Experiment]:
    try:
        section = Section.model_validate(_read(file).get("experiment", {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, ("experiment", *first["loc"])))
        raise ConfigError(f"config {file}: {key}: {first['msg']}") from None
    seen: list[dict[str, str]] = []
    for values in itertools.product(*section.vary.values()):
        varied = [f"{key}={json.dumps(value)}" for key, value in zip(section.vary, values, strict=True)]
        config, ranked_on = load_config(file, [*varied, *overrides]), None
        choice = {key: str(functools.reduce(getattr, key.split("."), config)) for key in section.vary}
        if choice in seen:
            continue  # an override leaves one value of a key that varies
        seen.append(choice)
        if section.ranked_on is not None:
            model = f"model.path={json.dumps(config.model.path)}"
            ranked_on = load_config(file.parent / section.ranked_on, [*overrides, model])
        yield Experiment(file, section, choice, config, ranked_on)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"config file {path}: cannot be read as TOML ({error}).") from None
