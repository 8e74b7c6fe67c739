"""A run as a TrainJob of Kubeflow Trainer v2 (2.2 or newer: `runtimePatches`), whose runtime starts torchrun's ranks.

The job's name follows from what it is to do, so that the same order finds its job again instead of a second one.
Data and output lie on claims: a pod mounts each at /mnt/pvc/CLAIM, where `pvc://CLAIM/PATH` leads to.

API: https://www.kubeflow.org/docs/components/trainer/, trainjob_types.go of github.com/kubeflow/trainer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tidegate_api.hashes import content_hash
from tidegate_components.code_version import image
from tidegate_components.training.launch import LaunchError, Site
from tidegate_components.training.run import Order
from tidegate_components.training.worker import order_text

__all__ = ["GROUP", "PLURAL", "VERSION", "Ended", "ended", "on_claims", "progress_line", "train_job"]

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
_RUNTIME = "torch-distributed"
_STEP = "node"  # the replicated job and the container of that runtime
_IN_POD = Path("/mnt/pvc")
_LONGEST_ARGUMENT = 65_536  # trainjob_types.go: items of trainer.command


@dataclass(frozen=True)
class Ended:
    """How a job ended, with its controller's message."""

    well: bool
    message: str


def on_claims(order: Order) -> tuple[list[str], Order]:
    """The claims of an order's paths, that of its output first, and the order as a pod sees it.

    Raises LaunchError for a path that is on no claim or on one that this machine does not see.
    """
    given = {"out": order.out, "train": order.train, "valid": order.valid}
    given |= {"start": order.start} if order.start else {}
    inside = {name: _on_claim(name, path) for name, path in given.items()}
    claims = list(dict.fromkeys(path.parts[0] for path in inside.values()))
    paths: dict[str, Any] = {name: _IN_POD / path for name, path in inside.items()}
    return claims, replace(order, **paths)


def _on_claim(name: str, path: Path) -> Path:
    root = Path(os.environ.get("TIDEGATE_PVC_ROOT", str(_IN_POD))).absolute()
    plain = Path(os.path.abspath(path))
    inside = plain.relative_to(root) if plain.is_relative_to(root) else Path()
    if len(inside.parts) > 1 and (root / inside.parts[0]).is_dir():
        return inside
    raise LaunchError(
        resource="tidegate train --launcher trainjob", field=name, value=str(path),
        expected=f"pvc://CLAIM/PATH, with the claim mounted here at {root}/CLAIM",
        remedy="put it on a claim that pods can mount too; TIDEGATE_PVC_ROOT says where claims are mounted here",
    )  # fmt: skip


def train_job(order: Order, claims: list[str], processes: int, site: Site, state: Any = None) -> dict[str, Any]:
    """The TrainJob: `order` as pods see it, `claims` that of the output first, `state` of the data as it is now."""
    body: dict[str, Any] = {
        "runtimeRef": {"apiGroup": GROUP, "kind": "ClusterTrainingRuntime", "name": _RUNTIME},
        "trainer": _trainer(order, processes, site),
        "runtimePatches": [_mounted(claims)],
        "activeDeadlineSeconds": site.deadline_s,
    }
    name = f"tidegate-{content_hash([body, state])[:12]}"
    labels = {"app.kubernetes.io/managed-by": "tidegate", "app.kubernetes.io/component": "training"}
    said = {"tidegate.dev/run": f"{order.config.name} into {order.out}"}
    metadata = {"name": name, "labels": labels, "annotations": said}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "TrainJob", "metadata": metadata, "spec": body}


def _trainer(order: Order, processes: int, site: Site) -> dict[str, Any]:
    """torchrun takes nodes, ranks and the meeting place from the PET_ variables that the runtime sets."""
    worker = ["-m", "tidegate_components.training.worker", "--engine", "sharded", "--order", _argument(order)]
    made: dict[str, Any] = {
        "image": image("training"),
        "command": ["python", "-m", "torch.distributed.run"],
        "args": [f"--max-restarts={order.restarts}", *worker],
        "numNodes": site.nodes,
        "numProcPerNode": processes,
    }
    threads = order.config.training.threads or _cores(site) // processes
    if threads:
        made["env"] = [{"name": "OMP_NUM_THREADS", "value": str(threads)}]
    if site.resources:
        made["resourcesPerNode"] = {"requests": dict(site.resources), "limits": dict(site.resources)}
    return made


def _cores(site: Site) -> int:
    asked = site.resources.get("cpu", "")
    return int(asked) if asked.isdecimal() else 0


def _argument(order: Order) -> str:
    """The order as one argument; Kubernetes would read $(NAME) in it, so that no dollar is left plain."""
    text = order_text(order).replace("$", "\\u0024")
    if len(text) > _LONGEST_ARGUMENT:
        raise LaunchError(
            resource="tidegate train --launcher trainjob", field="config", value=f"{len(text):,} characters as JSON",
            expected=f"at most {_LONGEST_ARGUMENT:,}, which a TrainJob's argument may have",
            remedy="shorten lists of values in the configuration",
        )  # fmt: skip
    return text


def _mounted(claims: list[str]) -> dict[str, Any]:
    """What the runtime's pods get on top: each claim at its place, only that of the output writable."""
    writable = claims[0]
    volumes = [{"name": f"claim-{n}", "persistentVolumeClaim": {"claimName": one}} for n, one in enumerate(claims)]
    mounts = [
        {"name": f"claim-{n}", "mountPath": str(_IN_POD / one), **({} if one == writable else {"readOnly": True})}
        for n, one in enumerate(claims)
    ]
    pod = {"volumes": volumes, "containers": [{"name": _STEP, "volumeMounts": mounts}]}
    jobs = [{"name": _STEP, "template": {"spec": {"template": {"spec": pod}}}}]
    return {"manager": "tidegate.dev/train", "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": jobs}}}}


def ended(job: dict[str, Any]) -> Ended | None:
    """How the job ended; nothing while it runs."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] in {"Complete", "Failed"} and condition["status"] == "True":
            message = condition.get("message") or condition.get("reason", "no reason given")
            return Ended(condition["type"] == "Complete", message)
    return None


def progress_line(job: dict[str, Any]) -> str:
    """One line for the person who waits."""
    name, status = job["metadata"]["name"], job.get("status", {})
    if outcome := ended(job):
        return f"TrainJob {name} is {'complete' if outcome.well else 'failed'}: {outcome.message}"
    for condition in status.get("conditions", []):
        if condition["type"] == "Suspended" and condition["status"] == "True":
            return f"TrainJob {name} waits: {condition.get('message', 'suspended')}"
    counted = next((one for one in status.get("jobsStatus", []) if one["name"] == _STEP), None)
    if counted is None or not (counted["active"] or counted["ready"]):
        return f"TrainJob {name} is accepted; its pods are not there yet"
    return f"TrainJob {name} {'trains' if counted['ready'] else 'starts its pods'}"
