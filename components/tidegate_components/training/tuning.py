"""Search for settings with Optuna: trials by several processes over one journal, unpromising ones pruned by epoch.

The search resumes: a journal that is there already is gone on with, and a trial that was under way when its process
died counts as failed. The sampler is TPE (Bergstra et al. 2011), the pruner the median rule of Golovin et al. 2017.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from tidegate_api.errors import expectation
from tidegate_api.hashes import content_hash
from tidegate_components.json_values import plain
from tidegate_components.models.config import Config, ConfigError, parse_config, with_settings
from tidegate_components.storage import content_digest, replacing
from tidegate_components.training.identity import check_identity

if TYPE_CHECKING:
    import optuna

    from tidegate_components.training.loop import Epoch

__all__ = [
    "Search",
    "Trial",
    "best_config",
    "best_of",
    "parse_space",
    "read_space",
    "search",
    "suggest",
    "trials_of",
    "try_settings",
]

_STUDY, _IDENTITY = "tidegate", "identity"


class Dimension(BaseModel):
    """The values of one setting: `choices`, or from `low` to `high` (whole numbers where both are whole)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    choices: tuple[Any, ...] = ()
    low: float | int | None = None
    high: float | int | None = None
    step: float | int | None = None
    log: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Dimension:
        if bool(self.choices) == (self.low is not None and self.high is not None):
            raise ValueError("say either choices, or low and high")
        if self.low is not None and self.high is not None and not self.low <= self.high:
            raise ValueError("low is at most high")
        if self.log and not (self.low or 0) > 0:
            raise ValueError("log: low is above 0")
        return self

    def suggest(self, trial: optuna.Trial, path: str) -> Any:
        """A value; choices go by place, since lists cannot be hashed."""
        if self.choices:
            return self.choices[trial.suggest_categorical(path, range(len(self.choices)))]
        assert self.low is not None  # noqa: S101 - the validator saw to it
        assert self.high is not None  # noqa: S101
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(path, self.low, self.high, step=int(self.step or 1), log=self.log)
        return trial.suggest_float(path, self.low, self.high, step=self.step, log=self.log)


@dataclass(frozen=True)
class Search:
    """What to search: `space` by dotted path of a setting, sets, where the journal and the best settings go."""

    config: Config
    space: dict[str, Dimension]
    train: Path
    valid: Path
    out: Path
    metric: str = "logloss"

    @property
    def direction(self) -> str:
        """Whether more is better."""
        return "maximize" if self.metric == "auc" else "minimize"


@dataclass(frozen=True)
class Trial:
    """One trial: its state (complete, pruned, fail, running), settings by path, figure, epochs seen."""

    number: int
    state: str
    settings: dict[str, Any]
    value: float | None
    epochs: int
    seconds: float


def read_space(path: Path, config: Config) -> dict[str, Dimension]:
    """Parse a YAML file of dotted paths. Raises ConfigError for a path or a dimension that is none."""
    try:
        return parse_space(path.read_text(), config, path.name)
    except OSError as error:
        raise _no_space(path.name, str(path), str(error)) from error


def parse_space(text: str, config: Config, origin: str) -> dict[str, Dimension]:
    """Parse dotted paths as YAML or JSON. Raises ConfigError for a path or a dimension that is none."""
    try:
        said = yaml.safe_load(text) or {}
        space = {str(name): Dimension.model_validate(one) for name, one in said.items()}
    except (AttributeError, yaml.YAMLError, ValidationError) as error:
        detail = error.errors()[0] if isinstance(error, ValidationError) else {"msg": str(error).splitlines()[0]}
        raise _no_space(origin, str(detail.get("input", text)), expectation(detail)) from error
    if not space:
        raise _no_space(origin, text.strip() or "empty", "at least one setting")
    for name, one in space.items():
        with_settings(config, {name: one.choices[0] if one.choices else one.low})
    return space


def _no_space(origin: str, value: str, detail: str) -> ConfigError:
    return ConfigError(
        resource=f"search space {origin}", field="file", value=value,
        expected=f"settings with choices, or low and high ({detail})",
        remedy="see docs/training.md, for example training.learning_rate: {low: 0.0001, high: 0.01, log: true}",
    )  # fmt: skip


def suggest(space: dict[str, Dimension], trials: int, seed: int) -> list[dict[str, Any]]:
    """Settings for so many trials that run at once, so that none learns from another: seeded draws, none twice."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    asked = [study.ask() for _ in range(trials)]
    drawn = [{path: one.suggest(trial, path) for path, one in space.items()} for trial in asked]
    return list({json.dumps(one): one for one in drawn}.values())


def try_settings(number: int, settings: dict[str, Any], wanted: Search) -> Trial:
    """One trial of a search by itself: trained and judged in this process; one whose loss blows up has failed."""
    from tidegate_components.training.learner import alone
    from tidegate_components.training.loop import best_epoch, fit

    begun = time.monotonic()
    said = with_settings(wanted.config, {**settings, "training.refit": False})
    try:
        epochs = fit([wanted.train], [wanted.valid], said, alone).epochs
    except FloatingPointError:
        return Trial(number, "fail", settings, None, 0, time.monotonic() - begun)
    value = best_epoch(epochs, wanted.metric).figure(wanted.metric)
    return Trial(number, "complete", settings, value, len(epochs), time.monotonic() - begun)


def best_of(trials: list[Trial], metric: str) -> list[Trial]:
    """The trials, best first. Raises ConfigError where none is complete."""
    sign = -1 if metric == "auc" else 1
    found = sorted(trials, key=lambda one: _rank(one, sign))
    if not found or found[0].state != "complete":
        raise ConfigError(
            resource="search", field="trials", value=[one.state for one in found], expected="one that is complete",
            remedy="narrow the search space, for example to lower learning rates",
        )  # fmt: skip
    return found


def search(wanted: Search, trials: int, jobs: int, done: Callable[[Trial], None], pruned_after: int = 5) -> list[Trial]:
    """Search until the journal holds so many ended trials; `done` sees each that this call ended. All, best first.

    With several jobs each is a process of its own, so that trials do not share the threads of one torch.
    """
    wanted.out.mkdir(parents=True, exist_ok=True)
    study = _study(wanted, pruned_after)
    _check_same(wanted, study)
    _fail_orphans(study)
    before = {trial.number for trial in study.trials if trial.state.is_finished()}
    left = max(trials - len(study.get_trials(states=_ended())), 0)
    if jobs > 1:
        _by_processes(wanted, [left // jobs + (job < left % jobs) for job in range(jobs)])
    else:
        work(wanted, left)
    found = trials_of(wanted)
    for trial in found:
        if trial.number not in before:
            done(trial)
    sign = -1 if wanted.direction == "maximize" else 1
    return sorted(found, key=lambda one: _rank(one, sign))


def _rank(trial: Trial, sign: int) -> tuple[bool, float]:
    return trial.state != "complete", sign * trial.value if trial.value is not None else float("inf")


def _study(wanted: Search, pruned_after: int = 5) -> optuna.Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name=_STUDY, storage=JournalStorage(JournalFileBackend(str(wanted.out / "journal.jsonl"))),
        direction=wanted.direction, load_if_exists=True,
        sampler=optuna.samplers.TPESampler(multivariate=True, constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=pruned_after, n_warmup_steps=0),
    )  # fmt: skip


def _check_same(wanted: Search, study: optuna.Study) -> None:
    """A journal is gone on with by the search that began it: figures of other data are not to be ranked with these."""
    parts = {name: value for name, value in _written(wanted).items() if name not in ("train", "valid", "out")}
    parts |= {"train": content_digest(wanted.train), "valid": content_digest(wanted.valid)}
    now = {name: content_hash(value) for name, value in parts.items()}
    check_identity("search", wanted.out, study.user_attrs.get(_IDENTITY), now, kept=bool(study.trials))
    study.set_user_attr(_IDENTITY, now)


def _fail_orphans(study: optuna.Study) -> None:
    """What was running when a search was broken off will never end."""
    import optuna

    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def work(wanted: Search, trials: int) -> None:
    """Run so many trials in this process."""
    _study(wanted).optimize(lambda trial: _try(wanted, trial), n_trials=trials, catch=(FloatingPointError,))


def _ended() -> tuple[Any, ...]:
    from optuna.trial import TrialState

    return TrialState.COMPLETE, TrialState.PRUNED


def _try(wanted: Search, trial: optuna.Trial) -> float:
    import optuna

    from tidegate_components.training.learner import alone
    from tidegate_components.training.loop import Hooks, best_epoch, fit

    settings = {path: one.suggest(trial, path) for path, one in wanted.space.items()}
    trial.set_user_attr("settings", json.dumps(settings))

    def judged(epoch: Epoch) -> None:
        trial.report(epoch.figure(wanted.metric), epoch.number)
        if trial.should_prune():
            raise optuna.TrialPruned

    said = with_settings(wanted.config, {**settings, "training.refit": False})
    fitted = fit([wanted.train], [wanted.valid], said, alone, Hooks(epoch=judged))
    return best_epoch(fitted.epochs, wanted.metric).figure(wanted.metric)


def _by_processes(wanted: Search, shares: list[int]) -> None:
    order = wanted.out / "search.json"
    with replacing(order) as beside:
        beside.write_text(json.dumps(_written(wanted)))
    command = [sys.executable, "-W", "ignore", "-m", "tidegate_components.training.tuning", str(order)]
    workers = [subprocess.Popen([*command, str(share)]) for share in shares if share]
    codes = [worker.wait() for worker in workers]
    if any(codes):
        raise ConfigError(
            resource="search", field="jobs", value=f"exit codes {codes}", expected="0 from each",
            remedy="read what they said above; running the command again goes on",
        )  # fmt: skip


def _written(wanted: Search) -> dict[str, Any]:
    space = {path: one.model_dump(mode="json") for path, one in wanted.space.items()}
    paths = {name: str(getattr(wanted, name)) for name in ("train", "valid", "out")}
    return {"config": wanted.config.model_dump(mode="json"), "space": space, "metric": wanted.metric, **paths}


def _main(order: Path, trials: int) -> None:
    from tidegate_components.training.run import prepare_process

    said = json.loads(order.read_text())
    prepare_process()
    space = {path: Dimension.model_validate(one) for path, one in said["space"].items()}
    train, valid, out = (Path(said[name]) for name in ("train", "valid", "out"))
    work(Search(parse_config(said["config"]), space, train, valid, out, said["metric"]), trials)


def trials_of(wanted: Search) -> list[Trial]:
    """Every trial of the journal."""
    return [
        Trial(
            one.number, one.state.name.lower(), json.loads(one.user_attrs.get("settings", "{}")), one.value,
            len(one.intermediate_values), one.duration.total_seconds() if one.duration else 0.0,
        )
        for one in _study(wanted).trials
    ]  # fmt: skip


def best_config(wanted: Search, best: Trial) -> Config:
    """The configuration with the best settings put in; writes `best.yaml` and `trials.json` into the folder."""
    config = with_settings(wanted.config, best.settings)
    with replacing(wanted.out / "best.yaml") as beside:
        beside.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    with replacing(wanted.out / "trials.json") as beside:
        beside.write_text(json.dumps(plain([asdict(trial) for trial in trials_of(wanted)]), indent=1))
    return config


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
