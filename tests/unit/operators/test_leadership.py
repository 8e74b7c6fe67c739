"""Who leads: claims on a Lease, as one operator after the other sees it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rollouts import GOOD, START, deployment
from tidegate_api.model_deployment import ModelDeploymentStatus
from tidegate_operators.handlers.aliases import AliasWatch
from tidegate_operators.handlers.leadership import Leadership, claim, release

Body = dict[str, Any]
KEY = ("ModelDeployment", "shop", "ctr-ranker")


class Leases:
    """The port of the cluster: one Lease, written by compare and set."""

    def __init__(self) -> None:
        self.lease: Body | None = None
        self.version = 0

    def get(self, kind: str, namespace: str, name: str) -> Body | None:
        return self.lease

    def write(self, body: Body) -> bool:
        present = self.lease["metadata"]["resourceVersion"] if self.lease else None
        if body["metadata"].get("resourceVersion") != present:
            return False
        self.version += 1
        self.lease = body | {"metadata": body["metadata"] | {"resourceVersion": str(self.version)}}
        return True


def _operator(leases: Leases, name: str) -> tuple[Leadership, list[bool]]:
    told: list[bool] = []
    return Leadership(leases, name, "tidegate-system", told.append), told  # type: ignore[arg-type]


def test_the_first_leads_and_the_second_waits_until_it_no_longer_renews() -> None:
    leases = Leases()
    (first, of_first), (second, of_second) = _operator(leases, "a"), _operator(leases, "b")
    first.renew(START)
    second.renew(START + timedelta(seconds=2))
    assert (of_first, of_second) == ([True], [])
    first.renew(START + timedelta(seconds=4))
    second.renew(START + timedelta(seconds=12))
    assert of_second == []
    second.renew(START + timedelta(seconds=18))
    assert of_second == [True]


def test_whoever_lost_the_lease_stops_before_or_when_another_begins() -> None:
    leases = Leases()
    (first, of_first), (second, of_second) = _operator(leases, "a"), _operator(leases, "b")
    first.renew(START)
    second.renew(START + timedelta(seconds=14))
    first.renew(START + timedelta(seconds=15))
    assert (of_first, of_second) == ([True, False], [True])


def test_a_leader_that_goes_lets_another_lead_at_once() -> None:
    leases = Leases()
    (first, of_first), (second, of_second) = _operator(leases, "a"), _operator(leases, "b")
    first.renew(START)
    first.let_go()
    second.renew(START + timedelta(seconds=2))
    assert (of_first, of_second) == ([True, False], [True])
    second.let_go()
    second.let_go()
    assert of_second == [True, False]


def test_two_that_claim_at_the_same_moment_do_not_both_lead() -> None:
    leases = Leases()
    bodies = [claim(None, name, "tidegate-system", START) for name in ("a", "b")]
    assert [leases.write(body) for body in bodies if body] == [True, False]


def test_nobody_releases_what_another_holds() -> None:
    body = claim(None, "a", "tidegate-system", START)
    assert body is not None
    assert release(body, "b") is None


def _follows(watch: AliasWatch) -> None:
    watch.saw(KEY, deployment(ModelDeploymentStatus(source=GOOD)))


def test_a_moved_alias_wakes_its_deployment_once() -> None:
    watch = AliasWatch()
    _follows(watch)
    alias = ("ctr-ranker", "challenger")
    assert watch.moved({alias: "1"}) == []
    assert watch.moved({alias: "2"}) == [KEY]
    assert watch.moved({alias: "2"}) == []


def test_an_alias_that_goes_there_and_back_wakes_its_deployment_each_time() -> None:
    """A look begins with the status of the look before, which names the version before."""
    watch = AliasWatch()
    alias = ("ctr-ranker", "challenger")
    for version in ("1", "2", "1", "2"):
        _follows(watch)
        watch.moved({alias: version})
        _follows(watch)
        assert watch.moved({alias: version}) == []
        assert watch.moved({alias: "3" if version == "2" else "2"}) == [KEY]


def test_a_registry_that_falls_silent_or_speaks_again_wakes_all() -> None:
    watch = AliasWatch()
    _follows(watch)
    alias = ("ctr-ranker", "challenger")
    assert watch.moved(None) == [KEY]
    assert watch.moved(None) == []
    assert watch.moved({alias: "1"}) == [KEY]
    watch.forget(KEY)
    assert not watch.is_needed
