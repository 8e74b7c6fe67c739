"""`ctr_training`: from raw interactions to a registered model package and its ModelDeployment."""
# mypy: disable-error-code="misc, untyped-decorator"
# ruff: noqa: PLR0913, PLR0917 - the parameters are the pipeline's public form, the body is the list of its steps

from typing import Any, NamedTuple

from kfp import dsl, kubernetes
from kfp.dsl import HTML
from kfp.dsl.pipeline_channel import PipelineChannel

from tidegate_components.code_version import code_version
from tidegate_components.steps import kfp_components as steps

__all__ = ["ctr_training"]

_LAKE_CLAIM = "lake"
_LAKE_MOUNT = "/mnt/pvc/lake"
_SIGNING_SECRET, _SIGNING_MOUNT = "tidegate-signing-key", "/mnt/signing-key"


class Outputs(NamedTuple):
    """What a run gives back: metrics by contender, verdict, registered version and manifest's path (JSON or text)."""

    metrics: str
    verdict: str
    registered: str
    deployed: str
    report: HTML


def _light(task: dsl.PipelineTask, name: str, retries: int = 1) -> dsl.PipelineTask:
    task.set_display_name(name).set_cpu_request("250m").set_memory_request("512Mi").set_memory_limit("4Gi")
    return _retried(task, retries)


def _heavy(task: dsl.PipelineTask, name: str, retries: int = 1) -> dsl.PipelineTask:
    task.set_display_name(name).set_cpu_request("1").set_memory_request("2Gi").set_memory_limit("8Gi")
    return _retried(task, retries)


def _retried(task: dsl.PipelineTask, retries: int) -> dsl.PipelineTask:
    return task.set_retry(num_retries=retries, backoff_duration="2s", backoff_factor=2.0) if retries else task


def _on_lake(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """With the claim `lake`: an address such as pvc://lake/PATH leads somewhere in it."""
    return kubernetes.mount_pvc(task, pvc_name=_LAKE_CLAIM, mount_path=_LAKE_MOUNT)


def _fresh(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Never from the cache: it reads or writes what may have changed outside the DAG."""
    return task.set_caching_options(False)


class _Rows(NamedTuple):
    """What the steps up to the split leave: the version of the data, and the three sets by name."""

    data_version: PipelineChannel
    parts: dict[str, PipelineChannel]


def _rows(data: str, views: str, lake: str, newest_event: str, expectations: str) -> _Rows:
    """From tables of events to training, validation and test set."""
    looked = _fresh(_light(steps.look(data=data, views=views), "Look at data and views"))
    version = looked.outputs["data_version"]
    ingested = _light(steps.ingest(data=data, data_version=version, newest_event=newest_event), "Ingest")
    cleaned = _light(steps.clean(events=ingested.outputs["events"]), "Clean").outputs["cleaned"]
    validated = _light(steps.validate(cleaned=cleaned, expectations=expectations), "Validate", retries=0)
    landed = _fresh(_light(steps.land(cleaned=cleaned, lake=lake), "Land in the lake").after(validated))
    joined = _light(steps.samples(cleaned=cleaned), "Join samples").after(validated).outputs["joined"]
    featured = _light(
        steps.features(joined=joined, views=looked.outputs["views"], lake=lake, lake_digest=landed.output),
        "Point-in-time features",
    )
    for task in (looked, ingested, validated, landed, featured):
        _on_lake(task)
    return _Rows(version, _light(steps.split(training_set=featured.outputs["training_set"]), "Split by time").outputs)


def _evaluated(rows: _Rows, model: PipelineChannel, model_name: str) -> dsl.PipelineTask:
    """The model against popularity and a logistic regression, on the newest rows."""
    return _heavy(
        steps.evaluate(
            model=model,
            train_set=rows.parts["train_set"],
            validation_set=rows.parts["validation_set"],
            test_set=rows.parts["test_set"],
            model_name=model_name,
            data_version=rows.data_version,
            code=code_version(),
        ),
        "Evaluate",
    )


def _gated(
    rows: _Rows, model: PipelineChannel, judged: dsl.PipelineTask, model_name: str, mlflow_uri: str, margin: float
) -> dsl.PipelineTask:
    """The verdict on the model beside the present champion; the run ends here where it does not pass."""
    champion = _fresh(_light(steps.read_champion(mlflow_uri=mlflow_uri, model_name=model_name), "Read champion"))
    champion.after(judged)
    return _heavy(
        steps.gate(
            metrics=judged.outputs["Output"],
            champion=champion.output,
            margin=margin,
            model_name=model_name,
            model=model,
            test_set=rows.parts["test_set"],
            mlflow_uri=mlflow_uri,
        ),
        "Champion gate",
        retries=0,
    )


def _packaged(
    rows: _Rows, model: PipelineChannel, judged: dsl.PipelineTask, model_name: str, unknown_ids: str, sign_key: str
) -> dsl.PipelineTask:
    """The package, signed where a key is named."""
    task = _heavy(
        steps.package(
            model=model,
            train_set=rows.parts["train_set"],
            test_set=rows.parts["test_set"],
            report=judged.outputs["report"],
            metrics=judged.outputs["Output"],
            model_name=model_name,
            code=code_version(),
            unknown_ids=unknown_ids,
            sign_key=sign_key,
        ),
        "Package",
    )
    return kubernetes.use_secret_as_volume(task, secret_name=_SIGNING_SECRET, mount_path=_SIGNING_MOUNT, optional=True)


def _registered(packaged: dsl.PipelineTask, model: PipelineChannel, mlflow_uri: str, alias: str) -> dsl.PipelineTask:
    """A version of the model in the registry, with the alias on it."""
    task = steps.register(
        packaged=packaged.outputs["packaged"],
        model=model,
        digest=packaged.outputs["Output"],
        mlflow_uri=mlflow_uri,
        alias=alias,
    )
    return _fresh(_light(task, "Register"))


def _deployed(version: PipelineChannel, model_name: str, alias: str, **place: Any) -> dsl.PipelineTask:
    """The ModelDeployment that follows the alias: a file, or applied."""
    task = steps.deploy(registered=version, model_name=model_name, alias=alias, **place)
    return _on_lake(_fresh(_light(task, "Deploy")))


@dsl.pipeline(
    name="ctr-training",
    display_name="CTR training",
    description="Ingest, clean, validate, join, features, train, judge, gate, package, register, deploy.",
)
def ctr_training(
    data: str = "movielens-100k",
    views: str = "manifests/examples",
    lake: str = "pvc://lake",
    newest_event: str = "",
    expectations: str = "",
    model_name: str = "ctr-ranker",
    mlflow_uri: str = "",
    alias: str = "challenger",
    deploy_to: str = "",
    namespace: str = "",
    apply: bool = False,
    architecture: str = "wide_deep",
    embedding_dim: int = 4,
    hidden: str = "64,32",
    epochs: int = 4,
    learning_rate: float = 0.002,
    seed: int = 7,
    unknown_ids: str = "fold",
    gate_margin: float = 0.002,
    sign_key: str = "",
) -> Outputs:
    """The training DAG. `data` is movielens-100k or a folder of event tables; the rest is in docs/training.md."""
    rows = _rows(data, views, lake, newest_event, expectations)
    trained = _heavy(
        steps.train(
            train_set=rows.parts["train_set"],
            validation_set=rows.parts["validation_set"],
            architecture=architecture,
            embedding_dim=embedding_dim,
            hidden=hidden,
            epochs=epochs,
            learning_rate=learning_rate,
            seed=seed,
        ),
        "Train",
    )
    model = trained.outputs["model"]
    judged = _evaluated(rows, model, model_name)
    gated = _gated(rows, model, judged, model_name, mlflow_uri, gate_margin)
    packaged = _packaged(rows, model, judged, model_name, unknown_ids, sign_key).after(gated)
    registered = _registered(packaged, model, mlflow_uri, alias)
    deployed = _deployed(registered.output, model_name, alias, deploy_to=deploy_to, namespace=namespace, apply=apply)
    metrics, verdict, report = judged.outputs["Output"], gated.outputs["Output"], judged.outputs["report"]
    return Outputs(metrics, verdict, registered.output, deployed.outputs["Output"], report)
