"""The configuration of a run: one TOML file, checked before anything starts.

Unknown keys are refused with the nearest right one; values are typed and bounded. Both halves import this, so it
needs neither torch nor Polars.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rampipe.errors import ConfigError
from rampipe.types import QueryGroup

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_SectionType = TypeVar("_SectionType", bound=_Section)


class ModelConfig(_Section):
    """Which checkpoint, and how it is loaded."""

    path: str = Field(description="Hub id or local folder of the checkpoint")
    revision: str | None = Field(default=None, description="Hub revision; pin a commit for results that others repeat")
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2", "flash_attention_3"] = Field(
        default="auto",
        description="auto: a flash kernel that is installed, on a GPU in half precision; else sdpa; else eager",
    )
    trust_remote_code: Literal[False] = Field(default=False, description="Never true: rampipe does not run remote code")


class DataConfig(_Section):
    """Which samples."""

    source: str = Field(default="samples", description='"samples" (the native format) or the name of a dataset')
    path: str = Field(description="Folder or object-store prefix of Parquet shards, or the dataset's own files")
    split: str | None = Field(
        default=None, description="Only shards whose name starts with <split>-, or what a source calls a split"
    )
    limit: int | None = Field(default=None, ge=1, description="Only the first so many samples")
    score: Literal["auto", "exact_match", "containment", "anls", "choice", "box_iou"] = Field(
        default="auto", description="How answers are judged; auto: what the dataset and the sample ask for"
    )


class PromptConfig(_Section):
    """How a sample becomes a prompt."""

    order: Literal["context_first", "question_first"] = "context_first"


class EvidenceConfig(_Section):
    """How pixels become tokens."""

    min_overlap: Fraction = Field(
        default=0.25, description="A patch is evidence when this share of it lies in a box; 0 keeps any touched patch"
    )


class CaptureConfig(_Section):
    """What is read from the attention."""

    queries: tuple[QueryGroup, ...] = Field(default=("question", "last"), min_length=1)
    calibrate: bool = Field(default=True, description="Second pass with the question replaced by N/A")
    share_context: bool = Field(default=True, description="Read a context once for all questions about it")
    backend: Literal["auto", "dense", "lse", "deferred"] = Field(
        default="auto",
        description="When and from what the statistics are computed; lse gives masses and peaks alone, for less",
    )
    peer_scores: bool = Field(
        default=False,
        description="Also what copy_score, ocr_hit and r2_score are made of: which key an answer row attends to most",
    )
    layers: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None,
        min_length=1,
        description="Only these layers get rows, and none after the last of them is computed",
    )
    predict_tokens: int = Field(default=0, ge=0, description="Greedy answer of at most so many tokens; 0 for none")
    unit_samples: int = Field(default=64, ge=1, le=4096, description="Samples of one unit of work")
    batch_tokens: int = Field(default=16384, ge=1, description="Padded tokens of one batch")
    max_pixels: int = Field(default=64_000_000, ge=1, description="Larger images become error rows before decoding")

    @field_validator("queries")
    @classmethod
    def _no_duplicates(cls, queries: tuple[QueryGroup, ...]) -> tuple[QueryGroup, ...]:
        if len(set(queries)) != len(queries):
            raise ValueError(f"names one group twice: {list(queries)}")
        return queries

    @field_validator("layers")
    @classmethod
    def _ascending(cls, layers: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """One spelling of one set: the fingerprint covers it."""
        return None if layers is None else tuple(sorted({*layers}))

    @model_validator(mode="after")
    def _peer_scores_can_be_had(self) -> CaptureConfig:
        """They are read from answer rows, by a backend that touches every key."""
        if self.peer_scores and "answer" not in self.queries:
            raise ValueError("capture.peer_scores is about answer rows: add 'answer' to capture.queries")
        if self.peer_scores and self.backend == "lse":
            raise ValueError("capture.peer_scores needs every key, which capture.backend 'lse' does not touch")
        return self


class ClusterConfig(_Section):
    """What each replica holds, and when the engine loses patience."""

    replicas: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    gpus_per_replica: float = Field(
        default=1.0, ge=0.0, description="More than 1: a model larger than one GPU, its layers spread over them"
    )
    cpus_per_replica: float = Field(default=1.0, gt=0.0)
    threads_per_replica: int = Field(default=1, ge=1, description="Threads of torch on the CPU")
    start_timeout_s: float = Field(default=600.0, gt=0.0, description="Longest wait for the first replica")
    min_deadline_s: float = Field(default=60.0, gt=0.0, description="No unit is given up earlier")
    max_error_frac: Fraction = Field(
        default=0.01, description="Share of error rows that fails the job, after committing"
    )

    @property
    def on_gpu(self) -> bool:
        """Whether a replica has a GPU, several, or a share of one."""
        return self.gpus_per_replica > 0


class RankConfig(_Section):
    """How rows become a ranking."""

    metric: str = "ram"
    k_frac: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    bootstrap_samples: int = Field(default=1000, ge=10)
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    seed: int = 0
    allow_partial: bool = False
    distributed: bool = Field(
        default=False, description="Sum the units of a large run as tasks on Ray; the ranking is the same to the byte"
    )
    task_units: int = Field(default=500, ge=1, description="With distributed: units that one task sums")


class StopConfig(_Section):
    """When a capture ends before all samples are read: once the top set of `[rank]` is certain."""

    level: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        default=None, description="Probability with which the top set must be right, e.g. 0.95; without it, read all"
    )
    tolerance_frac: float = Field(
        default=0.0, ge=0.0, description="Heads this share above a chosen one may be left out; 0 wants the set itself"
    )
    item: Literal["context", "unit"] = Field(
        default="context",
        description="What is independent: contexts, of a dataset in no particular order; units, of any dataset",
    )
    seed: int = Field(default=0, description="Of the order in which units are read")
    on_request: bool = Field(
        default=False, description="Read units in random order, so that `jobs.rank RUN --until-stable` may end it"
    )


class AblateConfig(_Section):
    """Which heads are silenced, how, and on which samples that is judged."""

    fracs: tuple[Fraction, ...] = Field(
        default=(0.0, 0.01, 0.02, 0.05, 0.10, 0.20), min_length=1, description="Shares of heads; 0 is the base"
    )
    seeds: int = Field(default=5, ge=1, description="Random draws of each kind, seeds 0, 1, ...")
    strategies: tuple[str, ...] = Field(default=("top", "bottom", "random", "layer_matched_random"), min_length=1)
    bands: tuple[tuple[Fraction, Fraction], ...] = Field(
        default=(), description="For strategy band: intervals of rank, e.g. [[0.05, 0.1]] is what follows the top 5 %"
    )
    masses: tuple[Fraction, ...] = Field(
        default=(0.5,), description="For strategy cumulative_mass: shares of the positive mass that the heads hold"
    )
    heads: tuple[str, ...] = Field(default=(), description='For strategy from_list: "layer.head", zero-based')
    per: tuple[Literal["query_head", "kv_head"], ...] = Field(
        default=("query_head",), min_length=1, description="kv_head chooses whole groups of query heads"
    )
    scopes: tuple[str, ...] = Field(
        default=("overall",), min_length=1, description="Whose ranking: overall, or domains"
    )
    modes: tuple[Literal["zero", "mean", "evidence_knockout", "uniform"], ...] = Field(default=("zero",), min_length=1)
    positions: tuple[Literal["all", "after_context", "decode"], ...] = Field(default=("all",), min_length=1)
    split: str | None = Field(default=None, description="Split that is evaluated; another than the ranked one")
    screen_split: str | None = Field(
        default=None,
        description="For strategy bottom_idle: split of text-only samples without evidence, which show what heads are "
        "needed for beyond retrieval; another than the evaluated one",
    )
    reference_samples: int = Field(default=64, ge=1, description="For mode mean: samples whose mean is put in")
    allow_same_samples: bool = Field(default=False, description="Evaluate on the samples that made the ranking")
    bootstrap_samples: int = Field(default=1000, ge=10)
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    seed: int = Field(default=0, description="Of the bootstrap")
    allow_partial: bool = False

    @model_validator(mode="after")
    def _idle_heads_can_be_found(self) -> AblateConfig:
        """They are chosen by what other samples show."""
        if "bottom_idle" in self.strategies and self.screen_split is None:
            raise ValueError("strategy bottom_idle chooses by ablate.screen_split, which is not set")
        if self.screen_split is not None and self.screen_split == self.split and not self.allow_same_samples:
            raise ValueError("ablate.screen_split is the evaluated split: heads would be judged on what chose them")
        return self


class SpeedConfig(_Section):
    """Which heads keep full attention, how the others are restricted, what is timed and on which samples judged.

    Answers are judged with the statistics of `[ablate]`.
    """

    full_fracs: tuple[Fraction, ...] = Field(
        default=(0.0, 0.05, 0.10, 0.25, 0.50, 1.0),
        min_length=1,
        description="Shares of heads that keep full attention; 0 restricts every head, 1 none",
    )
    seeds: int = Field(default=3, ge=1, description="Random draws of each kind, seeds 0, 1, ...")
    timed_seeds: int = Field(default=1, ge=0, description="Of these draws, so many are timed too, not only judged")
    strategies: tuple[str, ...] = Field(default=("top", "bottom", "random"), min_length=1)
    bands: tuple[tuple[Fraction, Fraction], ...] = ()
    masses: tuple[Fraction, ...] = (0.5,)
    heads: tuple[str, ...] = Field(default=(), description='For strategy from_list: "layer.head", zero-based')
    per: tuple[Literal["query_head", "kv_head"], ...] = Field(default=("query_head",), min_length=1)
    scopes: tuple[str, ...] = Field(default=("overall",), min_length=1)
    split: str | None = Field(default=None, description="Split that is answered; another than the ranked one")
    sink_tokens: int = Field(default=64, ge=0, description="First keys that a restricted head still sees")
    window_tokens: int = Field(default=1024, ge=1, description="Latest keys that a restricted head still sees")
    keep_text: bool = Field(default=True, description="A restricted head still sees all text")
    dense_below_tokens: int = Field(
        default=4096, ge=0, description="Shorter prompts are read densely: nothing to gain there, and quality to lose"
    )
    context_tokens: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(8192, 32768), min_length=1, description="Lengths of the timed prompts"
    )
    new_tokens: int = Field(default=64, ge=1, description="Tokens of one timed decode")
    warmups: int = Field(default=1, ge=0, description="Untimed repetitions at full length, of each side")
    repeats: int = Field(default=5, ge=1, description="Timed repetitions, each of the arm and of dense attention")


class ReportConfig(_Section):
    """What the report shows."""

    examples: int = Field(default=3, ge=0, le=32, description="Samples drawn with the attention of CoRe heads")


class RunConfig(_Section):
    """All sections of one TOML file."""

    model: ModelConfig
    data: DataConfig
    prompt: PromptConfig = PromptConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    capture: CaptureConfig = CaptureConfig()
    cluster: ClusterConfig = ClusterConfig()
    rank: RankConfig = RankConfig()
    stop: StopConfig = StopConfig()
    ablate: AblateConfig = AblateConfig()
    speed: SpeedConfig = SpeedConfig()
    report: ReportConfig = ReportConfig()
    out: str = Field(default="runs", description="Folder or object-store prefix that receives the run")


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a TOML file and apply `key=value` overrides (dotted keys, TOML values; a bare word is a string).

    Raises ConfigError, one line that names the key, the value seen, what is allowed and the nearest right key.
    """
    raw = _raw(path, overrides)
    raw.pop("experiment", None)  # of jobs.pipeline, which runs one file with several models
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(item, path) for item in error.errors(include_url=False))) from None


def load_rank_config(path: str | Path | None, overrides: Sequence[str] = ()) -> RankConfig:
    """Only the section `rank`, for those who have tables and no model; the other sections are not looked at."""
    stray = [override for override in overrides if not override.strip().startswith("rank.")]
    if stray:
        raise ConfigError(f"--set {stray[0]!r}: ranking existing tables reads only rank.* keys: {_keys_at(['rank'])}")
    return _load_section("rank", RankConfig, path, overrides)


def load_stop_config(path: str | Path | None, overrides: Sequence[str] = ()) -> StopConfig:
    """Only the section `stop`; of the overrides, those of other sections are not looked at."""
    own = [override for override in overrides if override.strip().startswith("stop.")]
    return _load_section("stop", StopConfig, path, own)


def _load_section(
    name: str, section: type[_SectionType], path: str | Path | None, overrides: Sequence[str]
) -> _SectionType:
    try:
        return section.model_validate(_raw(path, overrides).get(name, {}))
    except ValidationError as error:
        items = error.errors(include_url=False)
        raise ConfigError("; ".join(_explain({**item, "loc": (name, *item["loc"])}, path) for item in items)) from None


def _raw(path: str | Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    raw = _read_toml(Path(path)) if path is not None else {}
    for override in overrides:
        _apply(raw, override)
    return raw


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"config file {path}: not found. Pass an existing TOML file with --config.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"config file {path}: cannot be read as TOML ({error}).") from None


def _apply(raw: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {override!r}: write it as key=value, e.g. --set rank.k_frac=0.1")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.strip().split(".")
    if isinstance(value, int | float) and _is_text(sections, last):
        value = text.strip()  # a split may be called 2_2_2, which is how TOML writes 222
    place: Any = raw
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {override!r}: {section!r} is a value, not a section.")
    place[last] = value


def _explain(item: Mapping[str, Any], path: str | Path | None) -> str:
    """One validation problem as one sentence."""
    location = [str(part) for part in item["loc"]]
    key = ".".join(location)
    source = f"config {path}" if path else "configuration"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(location[-1], _keys_at(location[:-1]), n=1, cutoff=0.5)
        hint = f"did you mean {'.'.join([*location[:-1], near[0]])!r}?" if near else f"known: {_keys_at(location[:-1])}"
        return f"{source}: unknown key {key!r}: {hint}"
    if item["type"] == "missing":
        return f"{source}: key {key!r} is missing. Add it, or pass --set {key}=..."
    return f"{source}: {key} = {item['input']!r}: {item['msg']}"


def _keys_at(location: Sequence[str]) -> list[str]:
    """The keys that are allowed at a place of the file."""
    return sorted(_section_at(location).model_fields)


def _is_text(location: Sequence[str], key: str) -> bool:
    """Whether a key takes a string, or nothing."""
    field = _section_at(location).model_fields.get(key)
    return field is not None and {field.annotation, *get_args(field.annotation)} <= {str, str | None, type(None)}


def _section_at(location: Sequence[str]) -> type[BaseModel]:
    """The section of that place, or the nearest one above it."""
    section: type[BaseModel] = RunConfig
    for name in location:
        field = section.model_fields.get(name)
        candidates = [field.annotation, *get_args(field.annotation)] if field else []
        section = next((kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)), section)
    return section
