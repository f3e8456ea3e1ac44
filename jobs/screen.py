"""The screen before an ablation that silences idle heads: which of the lowest heads the control does not need."""

from __future__ import annotations

from jobs.arms import plan_arms
from rampipe.config import RunConfig
from rampipe.engine.ablate import ablation_config, evaluated_ids, run_ablation
from rampipe.engine.plan import make_ablation_spec
from rampipe.engine.preview import describe_stage
from rampipe.errors import ConfigError
from rampipe.heads.plan import arms_table
from rampipe.heads.rank import Ranking
from rampipe.heads.ranking import to_frame
from rampipe.heads.scopes import OVERALL
from rampipe.heads.screen import STAGE, idle_heads, screen_config
from rampipe.heads.verdict.stage import judge_stage
from rampipe.tables.arms import ArmPlan
from rampipe.tables.derived import read_stage
from rampipe.tables.storage import open_storage
from rampipe.types import HeadId


def screen_run(config: RunConfig, run_uri: str, ranking: Ranking) -> frozenset[HeadId]:
    """Silence bands of the lowest heads, publish `screen/accuracy` and `screen/arms`, and print what was found.

    Returns the heads that the control does not need. Raises ConfigError when a screened sample is evaluated too.
    """
    screened, plan = planned_screen(config, ranking)
    _check_other_samples(config, screened)
    outcome = run_ablation(screened, run_uri, plan, folder=STAGE)
    accuracy = judge_stage(run_uri, outcome.run_uri, plan, screened.ablate, stage=STAGE)
    idle = idle_heads(accuracy, plan)
    num_screened = sum(arm.num_heads for arm in plan.arms)
    print(f"screen: the control does not need {len(idle)} of the {num_screened} lowest heads")
    return idle


def plan_screen(config: RunConfig, run_uri: str, ranking: Ranking) -> frozenset[HeadId] | None:
    """Print what `screen_run` would do. Returns the idle heads when the screen is done; writes nothing."""
    screened, plan = planned_screen(config, ranking)
    spec = make_ablation_spec(ablation_config(screened), plan)
    work = f"{len(plan.arms)} arms x {sum(unit.num_samples for unit in spec.units)} samples"
    print(describe_stage(screened, run_uri, spec, folder=STAGE, work=work))
    tables = read_stage(open_storage(run_uri), STAGE)
    is_done = "arms" in tables and tables["arms"].equals(arms_table(plan))
    return idle_heads(to_frame(tables["accuracy"]), plan) if is_done else None


def planned_screen(config: RunConfig, ranking: Ranking) -> tuple[RunConfig, ArmPlan]:
    """The configuration with the screen in place of the ablation, and its arms."""
    num_heads = ranking.ranking.filter(scope=OVERALL).height
    screened = config.model_copy(update={"ablate": screen_config(config.ablate, num_heads=num_heads)})
    return screened, plan_arms(screened, screened.ablate, ranking)


def _check_other_samples(config: RunConfig, screened: RunConfig) -> None:
    shared = {*evaluated_ids(config)}.intersection(evaluated_ids(screened))
    if shared and not config.ablate.allow_same_samples:
        raise ConfigError(
            f"ablate.screen_split {config.ablate.screen_split!r}: {len(shared)} of its samples are evaluated too, "
            f"first {min(shared)!r}: the control would be judged on what chose the heads. Name another split, or set "
            "ablate.allow_same_samples = true."
        )
