"""The main job, chapter by chapter. What is done already, by the cluster's own word, is not done again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import HistoryEntry, ModelDeployment
from tidegate_api.model_package import ModelManifest
from tidegate_demo.cluster import Cluster
from tidegate_demo.facts import Addresses, counted_until
from tidegate_demo.requests import Slates, write_bodies
from tidegate_demo.traffic import Target, traffic
from tidegate_dev import paths
from tidegate_dev.progress import Progress

__all__ = ["CHAPTERS", "DEPLOYMENT", "HOST", "VIEWS", "Chapter", "Story", "feature_log", "requests_file"]

DEPLOYMENT = "ctr-ranker"
HOST = "ctr.example.com"
VIEWS = ("user-activity", "item-popularity", "user-history")
_ROOT = Path(__file__).parents[2]
_EXAMPLES = _ROOT / "manifests" / "examples"
REQUESTS_PER_SECOND = 300.0
ROLLOUT_SECONDS = 600
_VIEW_SECONDS = 300
_FRESH = timedelta(days=1)


def quick_deployment() -> dict[str, Any]:
    """The example with short steps: what it takes minutes to see in production, the demo is to show in seconds."""
    body: dict[str, Any] = yaml.safe_load((_EXAMPLES / f"{DEPLOYMENT}.yaml").read_text())
    spec, pause = body["spec"], {"pause": {"duration": "5s"}}
    spec["strategy"] = {"canary": {"steps": [{"setWeight": 1}, {"setWeight": 5}, pause, {"setWeight": 20}, pause]}}
    spec["analysis"] |= {"interval": "5s", "minSamples": 100}
    spec["progressDeadline"] = "10m"
    return body


def requests_file(work: Path) -> Path:
    """Where the demo keeps the requests that it sends: one body a line."""
    return work / "requests.jsonl"


def feature_log(work: Path) -> Path:
    """Where the demo logs the features that its requests were made of."""
    return work / "feature-log"


@dataclass(frozen=True)
class Chapter:
    """One version: the settings it is trained with, and how its rollout should end."""

    number: int
    title: str
    settings: Mapping[str, str]
    outcome: str


CHAPTERS = (
    Chapter(1, "version 1: a quick first model", {"epochs": "2", "embedding_dim": "4", "hidden": "32"}, "promoted"),
    Chapter(2, "version 2: better settings", {}, "promoted"),
    Chapter(3, "version 3: fails on users it has never seen", {"unknown_ids": "error"}, "rolledBack"),
)


@dataclass(frozen=True)
class Story:
    """The cluster, its addresses, and a folder for what the demo writes on this machine."""

    cluster: Cluster
    addresses: Addresses
    work: Path
    progress: Progress

    def tell(self) -> None:
        """All chapters, in order."""
        for chapter in CHAPTERS:
            if self._ended(chapter) is None:
                self._roll_out(chapter)
            else:
                self.progress.note(f"{chapter.title}: done before")

    def _roll_out(self, chapter: Chapter) -> None:
        self._train(chapter)
        if chapter.number == 1:
            self._apply_views()
            self._apply_deployment()
            self._wait_for(chapter)
            return
        target = Target(self.addresses.gateway.removeprefix("http://"), HOST, DEPLOYMENT)
        out = self.work / f"traffic-{chapter.number}.json"
        with traffic(target, self._write_bodies(), REQUESTS_PER_SECOND, ROLLOUT_SECONDS, out):
            self._wait_for(chapter)
        ended = time.time()
        self.cluster.wait(lambda: self._is_counted(ended), _VIEW_SECONDS, "Prometheus read the last counters")

    def _is_counted(self, ended: float) -> tuple[bool, str]:
        until = counted_until(self.addresses, DEPLOYMENT)
        return until > ended, f"read until {until:.0f}, traffic ended {ended:.0f}"

    def _train(self, chapter: Chapter) -> None:
        """The compiled DAG by kfp.local, into the registry; `register` moves the alias challenger."""
        self.progress.note(f"Training {chapter.title}")
        given = {"mlflow_uri": self.addresses.mlflow, "newest_event": self._newest_event()} | dict(chapter.settings)
        words = [word for name, value in given.items() for word in ("--param", f"{name}={value}")]
        command = [str(Path(sys.executable).with_name("tidegate")), "pipeline", "run", "ctr_training", *words]
        environment = os.environ | {"TIDEGATE_PVC_ROOT": str(paths.lake().parent)}
        subprocess.run([*command, "--root", str(self.work / "pipeline")], check=True, cwd=_ROOT, env=environment)

    def _newest_event(self) -> str:
        """The demo's log ends a little while ago. Once chosen it stays, so that nothing is trained twice."""
        kept = self.work / "newest-event"
        if kept.exists() and datetime.now(UTC) - datetime.fromisoformat(kept.read_text()) < _FRESH:
            return kept.read_text()
        chosen = datetime.now(UTC).replace(minute=0, second=0, microsecond=0).isoformat()
        self.work.mkdir(parents=True, exist_ok=True)
        kept.write_text(chosen)
        return chosen

    def _apply_views(self) -> None:
        with self.progress.part("materialize the feature views"):
            for name in VIEWS:
                self.cluster.apply(yaml.safe_load((_EXAMPLES / f"{name}.yaml").read_text()))
            for name in VIEWS:
                self.cluster.wait(lambda name=name: self._is_ready(name), _VIEW_SECONDS, f"{name} became Ready")  # type: ignore[misc]

    def _is_ready(self, name: str) -> tuple[bool, str]:
        view = FeatureView.parse(self.cluster.get("featureview", name))
        ready = next((c for c in view.status.conditions if c.type == "Ready"), None)
        return (ready is not None and ready.status == "True"), view.status.message or "no status yet"

    def _apply_deployment(self) -> None:
        self.cluster.apply(quick_deployment())

    def _wait_for(self, chapter: Chapter) -> None:
        with self.progress.part(f"roll out {chapter.title}"):
            self.cluster.wait(
                lambda: self._where(chapter), ROLLOUT_SECONDS, f"the end of the rollout of {chapter.title}"
            )
            self.cluster.wait(self._is_told, _VIEW_SECONDS, "the registry learned of the verdict")

    def _where(self, chapter: Chapter) -> tuple[bool, str]:
        entry = self._ended(chapter)
        if entry is not None and entry.outcome != chapter.outcome:
            raise RuntimeError(f"{chapter.title} ended as {entry.outcome}, expected {chapter.outcome}: {entry.message}")
        return entry is not None, str(self._deployment().get("status", {}).get("message"))

    def _is_told(self) -> tuple[bool, str]:
        history = ModelDeployment.parse(self._deployment()).status.history
        return all(entry.recorded for entry in history), "some verdicts are not recorded"

    def _ended(self, chapter: Chapter) -> HistoryEntry | None:
        """The rollout of this chapter, once it has ended: the deployment's history has one for each, in order."""
        if not self.cluster.exists("modeldeployment", DEPLOYMENT):
            return None
        history = ModelDeployment.parse(self._deployment()).status.history
        return history[chapter.number - 1] if len(history) >= chapter.number else None

    def _deployment(self) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.get("modeldeployment", DEPLOYMENT)
        return found

    def _write_bodies(self) -> Path:
        """Requests with the features that are in Redis now, which are logged as any service logs them."""
        from tidegate_components.events.movielens import fetch_movielens, movielens_tables
        from tidegate_components.features.online import open_store
        from tidegate_components.features.serving import FeatureService, ParquetLog

        into = requests_file(self.work)
        views = [FeatureView.load(_EXAMPLES / f"{name}.yaml") for name in VIEWS]
        newest = datetime.fromisoformat(self._newest_event())
        impressions = movielens_tables(fetch_movielens(), newest)["impressions"].slice(0, 20_000).to_pylist()
        log = ParquetLog(feature_log(self.work), views)
        service = FeatureService(views, open_store(self.addresses.redis), log)
        write_bodies(into, self._manifest(), service, impressions, Slates())
        log.close()
        return into

    def _manifest(self) -> ModelManifest:
        """model.json of the package that serves."""
        uri = ModelDeployment.parse(self._deployment()).status.stable
        if uri is None:
            raise RuntimeError(f"{DEPLOYMENT} has no stable revision yet")
        path = uri.uri.removeprefix("mlflow-artifacts:/").lstrip("/")
        url = f"{self.addresses.mlflow}/api/2.0/mlflow-artifacts/artifacts/{path}/model.json"
        with urllib.request.urlopen(url) as answer:
            return ModelManifest.model_validate_json(answer.read())
