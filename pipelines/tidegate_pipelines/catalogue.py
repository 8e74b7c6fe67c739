"""The pipelines by name, compiled to the YAML that kfp.local and a KFP server both take."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate_api.errors import TidegateError
from tidegate_components.storage import replacing

__all__ = ["PIPELINES", "Compiled", "PipelineError", "compile_pipeline", "parse_params"]

PIPELINES = {
    "ctr_training": "From raw interactions to a registered model package and its ModelDeployment.",
    "ctr_tuning": "Settings drawn from a search space, tried in parallel; the best of them in the registry.",
}
"""Name -> one line. Each is the function of its name in the module of its name."""


class PipelineError(TidegateError):
    """A pipeline, a parameter or a run that cannot be."""


@dataclass(frozen=True)
class Compiled:
    """A compiled pipeline: its file, parameters as name -> (KFP type, default), steps as name -> title, and images."""

    file: Path
    params: dict[str, tuple[str, Any]]
    titles: dict[str, str]
    images: list[str]


def compile_pipeline(name: str, file: Path) -> Compiled:
    """Compile the pipeline `name` to `file`; the same code gives the same bytes. Raises PipelineError if unknown."""
    import yaml
    from kfp import compiler

    known = name.replace("-", "_")
    if known not in PIPELINES:
        raise PipelineError(
            resource="pipeline", field="name", value=name, expected=f"one of {', '.join(PIPELINES)}",
            remedy="see `tidegate pipeline list`",
        )  # fmt: skip
    function = getattr(importlib.import_module(f"tidegate_pipelines.{known}"), known)
    with replacing(file) as beside:
        plain = beside.with_suffix(".yaml")
        compiler.Compiler().compile(function, str(plain))
        plain.replace(beside)
    spec = next(yaml.safe_load_all(file.read_text()))
    return Compiled(file, _params(spec), _titles(spec), _images(spec))


def _params(spec: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    found = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    return {name: (declared["parameterType"], declared.get("defaultValue")) for name, declared in found.items()}


def _titles(spec: dict[str, Any]) -> dict[str, str]:
    inner = [part["dag"] for part in spec["components"].values() if "dag" in part]
    tasks = [task for dag in (spec["root"]["dag"], *inner) for task in dag["tasks"].items()]
    return {name: task["taskInfo"]["name"] for name, task in tasks}


def _images(spec: dict[str, Any]) -> list[str]:
    executors = spec["deploymentSpec"]["executors"].values()
    return sorted({executor["container"]["image"] for executor in executors if "container" in executor})


def parse_params(given: list[str], compiled: Compiled) -> dict[str, Any]:
    """`k=v` texts as typed arguments. Raises PipelineError for an unknown name or a value of another type."""
    arguments = {}
    for text in given:
        name, _, value = text.partition("=")
        if name not in compiled.params or "=" not in text:
            raise PipelineError(
                resource=f"pipeline {compiled.file.stem}", field="param", value=text,
                expected=f"NAME=VALUE with one of {', '.join(compiled.params)}", remedy="correct --param",
            )  # fmt: skip
        arguments[name] = _typed(name, value, compiled.params[name][0])
    return arguments


def _typed(name: str, text: str, kind: str) -> Any:
    try:
        match kind:
            case "NUMBER_INTEGER":
                return int(text)
            case "NUMBER_DOUBLE":
                return float(text)
            case "BOOLEAN":
                return {"true": True, "false": False}[text.lower()]
            case _:
                return text
    except (ValueError, KeyError) as error:
        raise PipelineError(
            resource="pipeline", field=f"param {name}", value=text, expected=f"a value of type {kind}",
            remedy="correct --param",
        ) from error  # fmt: skip
