"""`ctr_tuning`: settings drawn from a search space, a step for each trial, the best of them in the registry."""
# mypy: disable-error-code="misc, untyped-decorator"
# ruff: noqa: PLR0913, PLR0917 - the parameters are the pipeline's public form

from typing import NamedTuple

from kfp import dsl, kubernetes

from tidegate_components.steps import kfp_components as steps

__all__ = ["ctr_tuning"]

_AT_ONCE = 4
_LAKE_CLAIM, _LAKE_MOUNT = "lake", "/mnt/pvc/lake"


class Outputs(NamedTuple):
    """What a run gives back: the best trial as JSON {number, state, settings, value, epochs, seconds}."""

    best: str


def _step(task: dsl.PipelineTask, name: str, cpu: str = "250m") -> dsl.PipelineTask:
    task.set_display_name(name).set_cpu_request(cpu).set_memory_request("1Gi").set_memory_limit("8Gi")
    return task.set_retry(num_retries=1, backoff_duration="2s", backoff_factor=2.0)


@dsl.pipeline(
    name="ctr-tuning",
    display_name="CTR tuning",
    description="Draw settings from a search space, try them in parallel, record every trial, choose the best.",
)
def ctr_tuning(
    config: str,
    space: str,
    train: str,
    valid: str,
    trials: int = 8,
    metric: str = "logloss",
    seed: int = 7,
    mlflow_uri: str = "",
) -> Outputs:
    """The search. `config`, `train`, `valid` are addresses, `space` is JSON; docs/distributed-training.md."""
    suggested = _step(
        steps.suggest(config=config, space=space, trials=trials, train=train, valid=valid, metric=metric, seed=seed),
        "Suggest settings",
    )
    suggested.set_caching_options(False)
    kubernetes.mount_pvc(suggested, pvc_name=_LAKE_CLAIM, mount_path=_LAKE_MOUNT)
    with dsl.ParallelFor(items=suggested.output, parallelism=_AT_ONCE, name="trials") as one:
        tried = _step(
            steps.trial(
                suggested=one,
                train=train,
                valid=valid,
                metric=metric,
            ),
            "Trial",
            cpu="1",
        )
        kubernetes.mount_pvc(tried, pvc_name=_LAKE_CLAIM, mount_path=_LAKE_MOUNT)
    chosen = _step(
        steps.choose(
            suggested=suggested.output,
            trials=dsl.Collected(tried.output),
            metric=metric,
            mlflow_uri=mlflow_uri,
        ),
        "Choose the best",
    )
    chosen.set_caching_options(False)
    return Outputs(chosen.outputs["Output"])
