"""From the reports of runs to the status of a FeatureView."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from cluster_in_memory import VIEW
from rollouts import START
from tidegate_api.feature_view import FeatureView, FeatureViewStatus
from tidegate_operators.freshness.evolution import rule_on
from tidegate_operators.freshness.report import Report, Run, next_look
from tidegate_operators.freshness.report import summarize as summarize_with
from tidegate_operators.rollout.observed import Announcement


def summarize(view: FeatureView, runs: list[Run], now: datetime) -> tuple[FeatureViewStatus, tuple[Announcement, ...]]:
    return summarize_with(view, runs, now, rule_on(view, None, [], now).condition)


def _view(status: FeatureViewStatus | None = None, **spec: Any) -> FeatureView:
    body = VIEW | {"spec": VIEW["spec"] | spec}  # type: ignore[operator]
    return FeatureView.parse(body | {"status": (status or FeatureViewStatus()).to_dict()})


def _report(minutes: int = 0) -> Report:
    at = (START + timedelta(minutes=minutes)).isoformat()
    return Report.model_validate({"watermark": at, "rows": 943, "newestEventTime": at})


def _run(report: Report | None = None, failure: str | None = None, minutes: int = 0) -> Run:
    return Run(START + timedelta(minutes=minutes), report, failure)


def _conditions(status: FeatureViewStatus) -> dict[str, tuple[str, str]]:
    return {item.type: (item.status, item.reason) for item in status.conditions}


def test_before_the_first_run_nothing_is_ready() -> None:
    status, _ = summarize(_view(), [], START)
    assert status.phase == "Pending"
    assert _conditions(status)["Ready"] == ("False", "Waiting")


def test_a_run_that_wrote_both_stores_makes_the_view_ready() -> None:
    status, said = summarize(_view(), [_run(_report())], START)
    assert _conditions(status)["Ready"][0] == "True"
    assert status.rows == 943
    assert "943 entities were written" in said[0].message


def test_a_failed_run_says_why_and_leaves_good_values_in_place() -> None:
    good, _ = summarize(_view(), [_run(_report())], START)
    failed, said = summarize(
        _view(good), [_run(failure="FeatureView user-activity: no column price", minutes=1)], START
    )
    assert failed.phase == "Failed"
    assert _conditions(failed)["Ready"][0] == "True"
    assert _conditions(failed)["Materialized"] == ("False", "MaterializationFailed")
    assert said[-1].message == "FeatureView user-activity: no column price"


def test_freshness_is_by_the_newest_event() -> None:
    view = _view(freshness={"target": "30m"})
    fresh, _ = summarize(view, [_run(_report())], START + timedelta(minutes=29))
    stale, _ = summarize(view, [_run(_report())], START + timedelta(minutes=31))
    assert _conditions(fresh)["Fresh"] == ("True", "WithinTarget")
    assert _conditions(stale)["Fresh"] == ("False", "Stale")


def test_the_watermark_never_goes_back() -> None:
    later, _ = summarize(_view(), [_run(_report(minutes=10))], START)
    again, _ = summarize(_view(later), [_run(_report(minutes=5), minutes=20)], START)
    assert again.watermark == START + timedelta(minutes=10)


def test_a_changed_definition_starts_anew() -> None:
    old, _ = summarize(_view(), [_run(_report())], START)
    status, _ = summarize(_view(old, ttl="1d"), [], START)
    assert status.watermark is None
    assert _conditions(status)["Ready"][0] == "False"


def test_a_pod_that_no_node_takes_is_said_though_earlier_runs_went_well() -> None:
    stuck = Run(None, None, "No node takes the pod.", "Unschedulable")
    status, _ = summarize(_view(), [_run(_report()), stuck], START)
    assert _conditions(status)["Materialized"] == ("False", "Unschedulable")
    assert _conditions(status)["Ready"][0] == "True"
    assert status.phase == "Ready"


def _told(**words: Any) -> Run:
    return Run(START, Report.model_validate(_report().to_dict() | words))


def test_values_as_expected_and_as_served_are_said() -> None:
    status, _ = summarize(_view(), [_told(quality=[], consistency={"values": 12, "fault": ""})], START)
    assert _conditions(status)["QualityOK"] == ("True", "AsExpected")
    assert _conditions(status)["Consistent"] == ("True", "AsDefined")


def test_failed_expectations_and_wrong_values_are_told_with_a_remedy_and_take_nothing_away() -> None:
    bad = {"quality": ["feature price has max 9e9, more than the expected 100"]}
    wrong = {"consistency": {"values": 12, "fault": "of 12 values that serving used, not as defined: price 3"}}
    status, said = summarize(_view(), [_told(**bad, **wrong)], START)
    found = {condition.type: condition for condition in status.conditions}
    assert found["QualityOK"].message.startswith("Feature price has max 9e9")
    assert found["Consistent"].message.startswith("Of 12 values that serving used, not as defined: price 3: see")
    assert (found["QualityOK"].status, found["Consistent"].status, found["Ready"].status) == ("False", "False", "True")
    assert {item.reason for item in said if item.type == "Warning"} == {"ExpectationsFailed", "ValuesDiffer"}


def test_what_a_run_said_of_the_values_stands_until_the_next_says_otherwise() -> None:
    bad, _ = summarize(_view(), [_told(quality=["feature price has max 9e9, more than the expected 100"])], START)
    for runs in ([], [_told(quality=None)]):
        later, _ = summarize(_view(bad), runs, START + timedelta(hours=1))
        assert _conditions(later)["QualityOK"] == ("False", "ExpectationsFailed"), "one that wrote nothing says nothing"
    edited = _view(bad)
    edited = edited.model_copy(update={"metadata": edited.metadata.model_copy(update={"generation": 9})})
    later, _ = summarize(edited, [_told(quality=None)], START + timedelta(hours=1))
    assert _conditions(later)["QualityOK"] == ("Unknown", "NotMeasured"), "it may expect something else now"


def test_without_a_log_nothing_is_said_of_consistency() -> None:
    status, _ = summarize(_view(), [_told(quality=[])], START)
    assert _conditions(status)["Consistent"] == ("Unknown", "NotReplayed")


def _next(runs: list[Run], minutes: float = 0, held: bool = False, **spec: Any) -> float:
    view, now = _view(**spec), START + timedelta(minutes=minutes)
    ruling = rule_on(view, None, [], now)
    if held:
        ruling = replace(ruling, condition=ruling.condition.model_copy(update={"status": "False"}))
    status, _ = summarize_with(view, runs, now, ruling.condition)
    return next_look(ruling, status, runs, now).total_seconds()


def test_a_view_is_looked_at_when_something_may_have_changed() -> None:
    written = [_run(_report())]
    topic = {"kafka": {"bootstrapServers": "kafka:9092", "topic": "events"}, "eventTimestamp": "event_time"}
    assert _next([]) == 3, "the first run is awaited"
    assert _next(written, freshness=None) == 600, "a Job would wake the operator"
    assert _next(written, minutes=50, freshness={"target": "1h"}) == 600
    assert _next(written, minutes=59, freshness={"target": "1h"}) == 63, "just after it turns stale"
    assert _next(written, minutes=61, freshness={"target": "1h"}) == 600
    assert _next([*written, Run(None, None, "ErrImagePull: no such image")]) == 30
    assert _next(written, held=True) == 30, "the models that hold it say nothing when they go"
    assert _next(written, source=topic) == 30
