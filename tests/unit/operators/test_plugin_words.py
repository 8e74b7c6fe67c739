"""What `kubectl tidegate` says, and to whom."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from cluster_in_memory import VIEW
from rollouts import GOOD, NEXT, START, deployment, revision
from tidegate_api.annotations import ABORT, PAUSE, PROMOTE, RETRY
from tidegate_api.feature_view import FeatureView, FeatureViewStatus
from tidegate_api.model_deployment import (
    CanaryStatus,
    Evidence,
    HistoryEntry,
    ModelDeployment,
    ModelDeploymentStatus,
    Verdict,
)
from tidegate_api.resource import Condition
from tidegate_operators.cli import completion
from tidegate_operators.cli.explain import explanation
from tidegate_operators.cli.main import app
from tidegate_operators.cli.tables import Sheet, age, deployments_sheet, history_sheet, print_sheet, views_sheet
from tidegate_operators.rollout.source import revision_of

STABLE, CANARY = revision_of(deployment(), GOOD), revision_of(deployment(), NEXT)
WHY = "errors: canary 30.00 % (30 of 100), stable 0.00 % (0 of 900): harm is shown."
ROLLED_BACK = f"Version 2 (revision {CANARY.hash}) was rolled back at 5 % of the traffic because of {WHY}"
SERVES = f"Version 1 (revision {STABLE.hash}) serves"


def _condition(kind: str, reason: str, message: str) -> Condition:
    return Condition(type=kind, status="False", reason=reason, message=message, last_transition_time=START)


def _rolled_back() -> ModelDeployment:
    verdict = Verdict(revision=CANARY, outcome="rolledBack", reason="GuardFailed", message=ROLLED_BACK, at=START)
    idle = _condition("Progressing", "NoRollout", ROLLED_BACK)
    return deployment(
        ModelDeploymentStatus(
            message=ROLLED_BACK, stable=STABLE, rejected=CANARY, verdict=verdict, conditions=[idle], phase="RolledBack"
        )
    )


def _rolling(annotations: dict[str, str] | None = None, first: bool = False, **spec: Any) -> ModelDeployment:
    evidence = [Evidence(metric="errors", message="errors: no samples yet.")]
    canary = CanaryStatus(revision=CANARY, started_at=START, step_started_at=START, evidence=evidence)
    message = "Version 2 has 5 % of the traffic, step 1 of 3: the pods do not start: no node"
    failed = _condition("Progressing", "Unschedulable", "the pods do not start: no node")
    status = ModelDeploymentStatus(
        message=message, stable=None if first else STABLE, canary=canary, weight=5, conditions=[failed]
    )
    return deployment(status, annotations, **spec)


def test_after_a_rollback_explain_says_who_serves_what_was_rejected_and_what_to_do() -> None:
    assert explanation(_rolled_back()) == (
        f"{SERVES} all traffic. {ROLLED_BACK} Version 2 (revision {CANARY.hash}) is not tried again while the alias "
        "challenger of ctr-ranker names it: move the alias to another version, or `kubectl tidegate retry ctr-ranker`."
    )


def test_explain_says_nothing_twice_and_ends_each_sentence() -> None:
    assert explanation(_rolling()) == (
        f"{SERVES} 95 % of the traffic. Version 2 has 5 % of the traffic, step 1 of 3: the pods do not start: no node. "
        "errors: no samples yet."
    )


def test_explain_of_a_healthy_deployment_is_one_sentence() -> None:
    message = f"{SERVES} all traffic."
    ready = Condition(type="Ready", status="True", reason="Serving", last_transition_time=START)
    assert explanation(deployment(ModelDeploymentStatus(message=message, stable=STABLE, conditions=[ready]))) == message


def _printed(sheet: Sheet, terminal: bool) -> list[str]:
    into = io.StringIO()
    print_sheet(sheet, Console(file=into, force_terminal=terminal, color_system=None, width=80))
    return into.getvalue().splitlines()


def test_in_a_pipe_each_object_is_one_line() -> None:
    lines = _printed(deployments_sheet([_rolled_back()]), terminal=False)
    assert len(lines) == 2
    assert lines[1].endswith(ROLLED_BACK)


def test_on_a_terminal_the_message_has_its_own_lines_and_no_word_is_cut() -> None:
    lines = _printed(deployments_sheet([_rolled_back()]), terminal=True)
    assert lines[1].split() == ["ctr-ranker", "RolledBack", "1", "-", "0%"]
    assert " ".join(" ".join(lines[2:]).split()) == ROLLED_BACK
    assert all(len(line) <= 80 for line in lines)


def test_history_tells_ages() -> None:
    entry = HistoryEntry(
        revision=CANARY, outcome="rolledBack", reason="GuardFailed", message=WHY, started_at=START, ended_at=START
    )
    found = deployment(ModelDeploymentStatus(history=[entry]))
    lines = _printed(history_sheet(found, START + timedelta(minutes=12)), terminal=False)
    assert lines[1].split()[:5] == ["12m", "2", CANARY.hash, "rolledBack", "GuardFailed"]


@pytest.mark.parametrize(
    ("since", "said"), [(0, "0s"), (90, "90s"), (150, "2m"), (3600 * 5, "5h"), (3600 * 30, "30h"), (86400 * 3, "3d")]
)
def test_ages_are_short(since: int, said: str) -> None:
    assert age(START, START + timedelta(seconds=since)) == said


def test_a_run_that_changed_nothing_changed_0_entities() -> None:
    view = FeatureView.parse(VIEW | {"status": {"rows": 0}})
    assert _printed(views_sheet([view], START), terminal=False)[1].split()[8] == "0"


def test_a_view_tells_what_is_wrong_with_its_values_beside_how_it_stands() -> None:
    said = Condition(
        type="QualityOK", status="False", reason="ExpectationsFailed", message="Feature price has max 9e9.",
        last_transition_time=START,
    )  # fmt: skip
    status = FeatureViewStatus(message="12 entities were written.", conditions=[said])
    view = FeatureView.parse(VIEW | {"status": status.to_dict()})
    (line,) = _printed(views_sheet([view], START), terminal=False)[1:]
    assert line.split()[2:6] == ["Unknown", "Unknown", "False", "Unknown"]
    assert line.endswith("12 entities were written. Feature price has max 9e9.")


class Shop:
    """The port to the API server: one namespace with what a test puts into it."""

    def __init__(self, *found: ModelDeployment) -> None:
        self.namespace = "shop"
        self.found = [item.model_dump(mode="json", by_alias=True, exclude_none=True) for item in found]
        self.annotated: list[dict[str, str | None]] = []

    def read(self, kind: str, name: str | None, everywhere: bool = False) -> list[dict[str, Any]]:
        return self.found

    def annotate(self, kind: str, name: str, annotations: dict[str, str | None]) -> None:
        self.annotated.append(annotations)


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def told(shop: Shop, *words: str) -> Result:
        for module in ("acting", "reading"):
            monkeypatch.setattr(f"tidegate_operators.cli.{module}.Connection", lambda namespace: shop)
        return CliRunner().invoke(app, list(words))

    return told


def test_an_empty_namespace_is_said_as_kubectl_says_it(run: Run) -> None:
    done = run(Shop(), "get")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "No resources found in shop namespace.\n")


@pytest.mark.parametrize("verb", ["abort", "pause", "promote", "resume"])
def test_without_a_rollout_a_verb_has_nothing_to_act_on(run: Run, verb: str) -> None:
    shop = Shop(_rolled_back())
    done = run(shop, verb, "ctr-ranker")
    assert done.exit_code == 1
    assert "no rollout is under way" in done.stderr
    assert shop.annotated == []


def test_resume_with_nothing_paused_says_so(run: Run) -> None:
    done = run(Shop(_rolling()), "resume", "ctr-ranker")
    assert done.exit_code == 1
    assert "is not paused" in done.stderr


def test_resume_takes_the_annotation_away(run: Run) -> None:
    shop = Shop(_rolling({PAUSE: revision(NEXT)}))
    assert run(shop, "resume", "ctr-ranker").exit_code == 0
    assert shop.annotated == [{PAUSE: None}]


def test_resume_cannot_undo_what_the_spec_says(run: Run) -> None:
    done = run(Shop(_rolling(paused=True)), "resume", "ctr-ranker")
    assert done.exit_code == 1
    assert "spec.paused" in done.stderr


def test_abort_of_a_first_revision_says_why_it_has_no_effect(run: Run) -> None:
    shop = Shop(_rolling(first=True))
    done = run(shop, "abort", "ctr-ranker")
    assert done.exit_code == 1
    assert "is the first" in done.stderr
    assert shop.annotated == []


def test_abort_names_the_revision(run: Run) -> None:
    shop = Shop(_rolling())
    assert run(shop, "abort", "ctr-ranker").exit_code == 0
    assert shop.annotated == [{ABORT: revision(NEXT)}]


def test_all_namespaces_are_told_with_theirs(run: Run) -> None:
    done = run(Shop(_rolling()), "get", "-A")
    assert done.stdout.split()[:7] == ["NAMESPACE", "NAME", "PHASE", "STABLE", "CANARY", "WEIGHT", "MESSAGE"]
    assert "shop" in done.stdout
    assert run(Shop(), "features", "-A").stderr == "No resources found.\n"
    assert run(Shop(), "get", "x", "-A").exit_code == 2


def _at_its_weight(**changes: Any) -> ModelDeployment:
    found = _rolling()
    assert found.status.canary is not None
    canary = found.status.canary.model_copy(update={"weight_since": START} | changes)
    return found.model_copy(update={"status": found.status.model_copy(update={"canary": canary})})


def test_promote_names_the_revision_once_it_has_its_weight(run: Run) -> None:
    shop = Shop(_at_its_weight())
    assert run(shop, "promote", "ctr-ranker").exit_code == 0
    assert shop.annotated == [{PROMOTE: revision(NEXT)}]


@pytest.mark.parametrize(
    ("found", "said"),
    [(_rolling(), "does not have the weight of its step yet"), (_at_its_weight(paused_at=START), "is paused")],
)
def test_promote_of_what_cannot_go_on_yet_says_so(run: Run, found: ModelDeployment, said: str) -> None:
    shop = Shop(found)
    done = run(shop, "promote", "ctr-ranker")
    assert (done.exit_code, said in done.stderr, shop.annotated) == (1, True, [])


def test_undo_during_a_rollout_is_no_abort_and_judges_nobody(run: Run) -> None:
    shop = Shop(_rolling())
    done = run(shop, "undo", "ctr-ranker")
    assert (done.exit_code, "kubectl tidegate abort ctr-ranker" in done.stderr, shop.annotated) == (1, True, [])


def test_undo_to_the_revision_that_serves_goes_nowhere(run: Run) -> None:
    entry = HistoryEntry(
        revision=STABLE, outcome="promoted", reason="Promoted", message="", started_at=START, ended_at=START
    )
    shop = Shop(deployment(ModelDeploymentStatus(stable=STABLE, history=[entry])))
    done = run(shop, "undo", "ctr-ranker", "--to", STABLE.hash)
    assert (done.exit_code, "serves all traffic already" in done.stderr, shop.annotated) == (1, True, [])


def test_retry_names_what_was_rejected(run: Run) -> None:
    shop = Shop(_rolled_back())
    assert run(shop, "retry", "ctr-ranker").exit_code == 0
    assert shop.annotated == [{RETRY: CANARY.hash}]
    done = run(Shop(_rolling()), "retry", "ctr-ranker")
    assert (done.exit_code, "nothing was rejected" in done.stderr) == (1, True)


def test_json_leaves_managed_fields_out(run: Run) -> None:
    shop = Shop(_rolling())
    shop.found[0]["metadata"]["managedFields"] = [{"manager": "tidegate"}]
    (body,) = json.loads(run(shop, "get", "--json").stdout)
    assert body["metadata"]["name"] == "ctr-ranker"
    assert "managedFields" not in body["metadata"]


@pytest.mark.parametrize("verb", ["get", "features", "history", "explain", "promote", "abort", "pause", "resume"])
def test_every_verb_shows_an_example(run: Run, verb: str) -> None:
    assert f"Example: kubectl tidegate {verb}" in run(Shop(), verb, "--help").stdout


def test_the_version_is_told(run: Run) -> None:
    assert run(Shop(), "--version").stdout.startswith("kubectl-tidegate ")


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("pro", "promote"), ("watch --until", "--until-done"), ("get ctr", "ctr-ranker"), ("features us", "user-activity"),
     ("watch ctr", "ctr-ranker"), ("undo ctr", "ctr-ranker")],
)  # fmt: skip
def test_kubectl_completes_verbs_options_and_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, completed: str
) -> None:
    for name in ("_TYPER_COMPLETE_ARGS", "_TYPER_COMPLETE_FISH_ACTION", "_KUBECTL_TIDEGATE_COMPLETE"):
        monkeypatch.setenv(name, "")  # is taken back after the test
    names = {"ModelDeployment": "ctr-ranker", "FeatureView": "user-activity"}
    cluster = SimpleNamespace(read=lambda kind, name: [{"metadata": {"name": names[kind]}}])
    monkeypatch.setattr("tidegate_operators.cli.arguments.Connection", lambda namespace: cluster)
    monkeypatch.setattr("sys.argv", ["kubectl_complete-tidegate", *typed.split()])
    completion.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("\t")[0] for line in lines] == [completed, ":4"]
