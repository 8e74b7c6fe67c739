"""plan and simulate: what they print, and that simulated rollouts end as real ones would."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from rollouts import SPEC, deployment
from tidegate_api.errors import TidegateError
from tidegate_operators.cli.files import read_deployment
from tidegate_operators.cli.main import app
from tidegate_operators.cli.traffic import both_sides, parse_rates
from tidegate_operators.rollout.power import plan_steps
from tidegate_operators.rollout.simulation import Behaviour, Rate, simulate

CTR: dict[str, Any] = {"name": "ctr", "higherIsBetter": True, "margin": 0.0,
                       "ratio": {"events": "c{$track}", "trials": "i{$track}"}}  # fmt: skip
ERRORS = {"name": "errors", "role": "guard", "margin": 0.005, "errorRate": {}}
ANALYSIS = {"interval": "10s", "minSamples": 100, "metrics": [ERRORS, CTR | {"role": "guard"}]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    body = {"apiVersion": "tidegate.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "ctr-ranker"}}
    path = tmp_path / "md.yaml"
    path.write_text(yaml.safe_dump(body | {"spec": SPEC | {"analysis": ANALYSIS}}))
    return path


def _run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_simulate_prints_the_fractions_of_every_ending(file: Path) -> None:
    words = ["simulate", "-f", str(file), "--stable", "ctr=0.03", "--canary", "ctr=0.01", "--rps", "200"]
    found = json.loads(_run(*words, "--runs", "20", "--json"))
    assert found["rolledBackForHarm"] == 1.0
    assert sum(found[name] for name in ("promoted", "rolledBackForHarm", "timedOut", "held")) == pytest.approx(1)
    assert found["seconds"]["rolledBackForHarm"]["median"] > 0
    assert json.loads(_run(*words, "--runs", "20", "--json")) == found


def test_plan_tells_what_each_step_can_see(file: Path) -> None:
    words = ["plan", "-f", str(file), "--rps", "200", "--baseline", "ctr=0.03", "--harm", "ctr=0.02"]
    steps = json.loads(_run(*words, "--json"))
    assert [step["weight"] for step in steps] == [5, 50]
    seen = [next(m["harmSeconds"] for m in step["metrics"] if m["metric"] == "ctr") for step in steps]
    assert seen[0] > seen[1] > 0
    assert "SEEN-AFTER" in _run(*words)


def _file(tmp_path: Path, **spec: Any) -> str:
    body = {"apiVersion": "tidegate.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "ctr-ranker"}}
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "beside"}}
    path = tmp_path / "several.yaml"
    path.write_text(yaml.safe_dump_all([other, body | {"spec": SPEC | {"analysis": ANALYSIS} | spec}]))
    return str(path)


def _simulated(file: str, *more: str) -> dict[str, Any]:
    return dict(json.loads(_run("simulate", "-f", file, "--rps", "200", "--runs", "10", "--json", *more)))


def test_a_simulated_rollout_that_waits_for_a_person_is_held_until_one_comes(tmp_path: Path) -> None:
    steps = [{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}, {"setWeight": 80}]
    file = _file(tmp_path, strategy={"canary": {"steps": steps}})
    assert _simulated(file, "--runs", "3")["held"] == 1
    for person, seconds in (("10s", 20), ("1h", 7200)):
        promoted = _simulated(file, "--promote-after", person, "--runs", "3")
        assert promoted["promoted"] == 1
        assert promoted["seconds"]["promoted"]["min"] > seconds
    assert _simulated(file, "--canary", "errors=0.5", "--runs", "3")["rolledBackForHarm"] == 1


def test_equal_sides_whose_baseline_doubles_over_the_day_are_seldom_rolled_back(tmp_path: Path) -> None:
    pauses = [{"setWeight": 5}, {"pause": {"duration": "6h"}}, {"setWeight": 50}, {"pause": {"duration": "6h"}}]
    analysis = ANALYSIS | {"interval": "5m"}
    file = _file(tmp_path, strategy={"canary": {"steps": pauses}}, analysis=analysis)
    assert _simulated(file, "--swing", "2")["rolledBackForHarm"] <= 0.2


def test_a_plan_of_blue_green_has_its_thresholds_and_its_wait(tmp_path: Path) -> None:
    drift = {"name": "drift", "role": "guard", "threshold": {"query": "d", "max": 0.25, "failureLimit": 3}}
    strategy = {"blueGreen": {"autoPromotionEnabled": False, "scaleDownDelay": "30s"}}
    file = _file(tmp_path, strategy=strategy, analysis={"interval": "10s", "metrics": [drift]})
    preview, switched = json.loads(_run("plan", "-f", file, "--rps", "20", "--json"))
    assert (preview["weight"], preview["untilPromoted"]) == (0, True)
    assert (switched["weight"], switched["pauseSeconds"]) == (100, 30)
    assert preview["metrics"][0]["harmSeconds"] == 40
    assert "until promoted" in _run("plan", "-f", file, "--rps", "20")


def test_a_plan_says_that_samples_come_after_the_deadline(file: Path) -> None:
    assert "it would time out" in _run("plan", "-f", str(file), "--rps", "0.5")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--harm", "ctr=0.04"), "below stable's 0.03"),
        (("--baseline", "ctr=0.03:0.1"), "ctr is a share: a deviation is of means and estimates only"),
        (("--baseline", "ctr=0"), "a rate below which there is another"),
        (("--baseline", "ctr=0.03", "--baseline", "ctr=0.02"), "each metric once"),
        (("--baseline", "ctr=nan"), "a finite number"),
    ],
)
def test_a_plan_of_rates_that_make_no_sense_is_refused(file: Path, words: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, ["plan", "-f", str(file), "--rps", "20", *words])
    assert said in str(done.exception)


def test_a_file_is_refused_as_the_api_server_would(tmp_path: Path) -> None:
    twice = ANALYSIS | {"metrics": [ERRORS, ERRORS]}
    done = CliRunner().invoke(app, ["simulate", "-f", _file(tmp_path, analysis=twice), "--rps", "20"])
    assert "spec.analysis.metrics[1]: Duplicate value: name 'errors'" in str(done.exception)


RESTARTED = "name: ctr-ranker\n  annotations: {tidegate.dev/restart: 2026-01-01T10:00:00+00:00}\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("margin: 0.005", "margin: 5e-3"),
        ("minReplicas: 2", "minReplicas: 2.0"),
        ("strategy:", "paused:\n  strategy:\n    blueGreen:"),
        ("name: ctr-ranker\n", RESTARTED),
    ],
)
def test_yaml_is_read_as_kubectl_reads_it(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    assert _run("plan", "-f", str(file), "--rps", "20")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("kind: ModelDeployment\n", 'the key kind is there twice\n  in "<unicode string>", line'),
        ("paused: true\n", 'unknown field "paused"'),
    ],
)
def test_what_kubectl_refuses_of_a_file_is_refused(file: Path, more: str, said: str) -> None:
    file.write_text(file.read_text() + more)
    assert said in str(CliRunner().invoke(app, ["plan", "-f", str(file), "--rps", "20"]).exception)


@pytest.mark.parametrize(
    "text", ["kind: List\n", "kind: List\nitems:\n", "kind: List\nitems: [a]\n", "kind: [x]\n", "- a\n", ""]
)
def test_a_file_without_a_deployment_is_refused_with_a_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    with pytest.raises(TidegateError):
        read_deployment([file], None)


def test_a_file_is_read_from_stdin(file: Path) -> None:
    done = CliRunner().invoke(app, ["plan", "-f", "-", "--rps", "20", "--json"], input=file.read_text())
    assert [step["weight"] for step in json.loads(done.stdout)] == [5, 50]


def test_the_plan_is_about_what_simulated_rollouts_take(file: Path) -> None:
    """The median simulated rollback of a harm at a fixed weight lies near the planned time."""
    steps = [{"setWeight": 50}, {"pause": {"duration": "2h"}}]
    found = deployment(strategy={"canary": {"steps": steps}}, analysis=ANALYSIS)
    rates = {"errors": (Rate(0.001), Rate(0.001)), "ctr": (Rate(0.03), Rate(0.024))}
    (step,) = plan_steps(found, rates, 200)
    planned = next(sight.harm_seconds for sight in step.sights if sight.metric == "ctr")
    assert planned is not None
    endings = [
        simulate(found, Behaviour(rates, 200, timedelta(hours=3)), np.random.default_rng(seed)) for seed in range(15)
    ]
    assert {ending.outcome for ending in endings} == {"rolledBackForHarm"}
    assert planned / 3 < sorted(ending.seconds for ending in endings)[7] < planned * 3


def test_simulated_rollouts_of_equal_sides_are_seldom_rolled_back() -> None:
    found = deployment(analysis=ANALYSIS)
    rates = both_sides(found, {}, {})
    endings = [
        simulate(found, Behaviour(rates, 100, timedelta(hours=3)), np.random.default_rng(seed)) for seed in range(60)
    ]
    assert sum(ending.outcome == "rolledBackForHarm" for ending in endings) <= 8
    assert sum(ending.outcome == "promoted" for ending in endings) >= 50


def test_every_kind_of_metric_is_simulated() -> None:
    metrics = [
        {"name": "reward", "role": "objective", "higherIsBetter": True, "margin": 0.1,
         "mean": {"sum": "s{$track}", "sumOfSquares": "q{$track}", "count": "n{$track}"}},
        {"name": "auc", "role": "guard", "higherIsBetter": True, "margin": 0.01,
         "external": {"value": "v{$track}", "standardError": "e{$track}", "sampleSize": "n{$track}"}},
        {"name": "drift", "role": "guard", "threshold": {"query": "d{$track}", "max": 0.25}},
    ]  # fmt: skip
    found = deployment(analysis={"interval": "10s", "minSamples": 100, "metrics": metrics})
    rates = both_sides(found, {}, {})
    ending = simulate(found, Behaviour(rates, 200, timedelta(hours=3)), np.random.default_rng(1))
    assert ending.outcome == "promoted"
    worse = rates | {"auc": (Rate(0.78, 0.5), Rate(0.70, 0.5))}
    assert simulate(found, Behaviour(worse, 200, timedelta(hours=3)), np.random.default_rng(1)).outcome == (
        "rolledBackForHarm"
    )
    drifting = rates | {"drift": (Rate(0.1), Rate(0.9))}
    assert simulate(found, Behaviour(drifting, 200, timedelta(hours=3)), np.random.default_rng(1)).outcome == (
        "rolledBackForHarm"
    )


LATE = CTR | {"role": "guard", "ratio": CTR["ratio"] | {"labelDelay": "10m"}}


def _ratio_only(metric: dict[str, Any], *steps: Any) -> dict[str, Any]:
    given = {"interval": "10s", "minSamples": 100, "metrics": [metric]}
    return {"analysis": given, "strategy": {"canary": {"steps": list(steps)}}}


def test_no_outcome_is_known_before_its_label_delay(tmp_path: Path) -> None:
    """Neither in simulated rollouts nor in a plan."""
    file = _file(tmp_path, **_ratio_only(LATE, {"setWeight": 50}, {"pause": {"duration": "30m"}}))
    rates = ("--stable", "ctr=0.1", "--canary", "ctr=0.01")
    assert _simulated(file, *rates)["seconds"]["rolledBackForHarm"]["min"] > 600
    (step,) = json.loads(
        _run("plan", "-f", file, "--rps", "200", "--baseline", "ctr=0.1", "--harm", "ctr=0.01", "--json")
    )
    assert 600 < step["metrics"][0]["harmSeconds"] < 660


def test_a_plan_says_when_an_objective_is_proven_and_simulated_rollouts_agree(tmp_path: Path) -> None:
    objective = CTR | {"role": "objective", "margin": 0.004}
    file = _file(tmp_path, **_ratio_only(objective, {"setWeight": 5}, {"setWeight": 50}), progressDeadline="2h")
    first, last = json.loads(_run("plan", "-f", file, "--rps", "200", "--json"))
    assert (first["metrics"][0]["mustBeProven"], last["metrics"][0]["mustBeProven"]) == (False, True)
    proven = first["leastSeconds"] + last["metrics"][0]["provenSeconds"]
    assert last["leastSeconds"] == pytest.approx(last["metrics"][0]["provenSeconds"], abs=10)
    assert proven / 3 < _simulated(file)["seconds"]["promoted"]["median"] < proven * 3


def test_a_plan_says_that_an_objective_will_hardly_be_proven_in_time(tmp_path: Path) -> None:
    objective = CTR | {"role": "objective", "margin": 0.001}
    file = _file(tmp_path, **_ratio_only(objective, {"setWeight": 5}), progressDeadline="10m")
    assert "past the deadline" in _run("plan", "-f", file, "--rps", "200")
    assert _simulated(file)["timedOut"] >= 0.9


def test_a_preview_lasts_until_a_lasting_failure_would_have_rolled_it_back(tmp_path: Path) -> None:
    drift = {"name": "drift", "role": "guard", "threshold": {"query": "d", "max": 0.25, "failureLimit": 3}}
    file = _file(tmp_path, strategy={"blueGreen": {}}, analysis={"interval": "10s", "metrics": [drift]})
    ended = _simulated(file, "--canary", "drift=0.5")
    assert (ended["rolledBackForHarm"], ended["weights"]["rolledBackForHarm"]["max"]) == (1, 0)
    assert json.loads(_run("plan", "-f", file, "--rps", "20", "--json"))[0]["leastSeconds"] == 40


def test_a_plan_of_numbers_that_do_not_vary_sees_their_difference_at_once(tmp_path: Path) -> None:
    mean = {"name": "revenue", "role": "guard", "margin": 0.05, "higherIsBetter": True,
            "mean": {"sum": "s{$track}", "sumOfSquares": "q{$track}", "count": "n{$track}"}}  # fmt: skip
    file = _file(tmp_path, **_ratio_only(mean, {"setWeight": 50}))
    (step,) = json.loads(_run("plan", "-f", file, "--rps", "200", "--baseline", "revenue=10:0", "--json"))
    assert step["metrics"][0]["harmSeconds"] <= 30


def test_a_pause_at_all_of_the_traffic_is_planned(tmp_path: Path) -> None:
    steps = [{"setWeight": 50}, {"setWeight": 100}, {"pause": {"duration": "10m"}}]
    file = _file(tmp_path, strategy={"canary": {"steps": steps}})
    assert [step["weight"] for step in json.loads(_run("plan", "-f", file, "--rps", "20", "--json"))] == [50, 100]


def test_a_long_test_is_looked_at_less_often_and_says_so(tmp_path: Path) -> None:
    strategy = {"abTest": {"header": "x-bucket", "percent": 20, "minDuration": "7d", "maxDuration": "21d"}}
    objective = CTR | {"role": "objective", "margin": 0.001}
    file = _file(tmp_path, strategy=strategy, analysis=ANALYSIS | {"metrics": [objective]})
    done = CliRunner().invoke(app, ["simulate", "-f", file, "--rps", "20", "--runs", "1", "--json"])
    assert "a look every 15.2m instead of 10s" in done.stderr
    assert json.loads(done.stdout)["promoted"] == 1


def test_a_rollout_that_goes_on_at_the_horizon_is_told_apart_from_one_that_waits(tmp_path: Path) -> None:
    file = _file(tmp_path, strategy={"canary": {"steps": [{"setWeight": 50}, {"pause": {"duration": "1h"}}]}})
    found = _simulated(file, "--horizon", "1m")
    assert found["held"] == found["heldAtHorizon"] >= 0.8


def test_several_files_are_one(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(file.read_text().replace("name: ctr-ranker", "name: other"))
    words = ("plan", "-f", str(file), "-f", str(other), "--rps", "20")
    assert "name one by --name" in str(CliRunner().invoke(app, list(words)).exception)
    assert _run(*words, "--name", "other")


@pytest.mark.parametrize(("word", "said"), [("clicks=0.1", "a metric of spec.analysis"), ("ctr=1.5", "a share"),
                                            ("ctr=much", "a number")])  # fmt: skip
def test_a_rate_that_is_none_is_refused_with_a_sentence(word: str, said: str) -> None:
    with pytest.raises(TidegateError, match=said):
        parse_rates([word], deployment(analysis=ANALYSIS), "--stable")
