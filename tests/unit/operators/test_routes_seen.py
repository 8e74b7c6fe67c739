"""What the operator sees of its routes: a gateway that refuses a place takes nobody off the air."""

from __future__ import annotations

from typing import Any

from cluster_in_memory import (
    Gateways,
    Memory,
    condition_of,
    look,
    serving,
)
from rollouts import deployment
from tidegate_api.model_deployment import ModelDeployment

ROUTING = {"gatewayRef": {"name": "public", "namespace": "gateways"}, "hostnames": ["ctr.example.com"]}


def _hosts(memory: Memory, part: str = "") -> list[str]:
    hosts: list[str] = memory.objects["HTTPRoute", f"ctr-ranker{part}"]["spec"]["hostnames"]
    return hosts


def _asked(found: ModelDeployment, **routing: Any) -> ModelDeployment:
    return deployment(found.status, routing=ROUTING | routing)


def test_a_gateway_that_is_not_there_takes_no_standing_route_along() -> None:
    memory = Gateways()
    served = serving(memory)
    after = look(memory, _asked(served, gatewayRef={"name": "nowhere", "namespace": "gateways"}))
    parent = memory.objects["HTTPRoute", "ctr-ranker"]["spec"]["parentRefs"][0]
    assert (parent["namespace"], parent["name"]) == ("gateways", "public")
    said = condition_of(after, "RoutesAccepted")
    assert "Gateway gateways/nowhere does not exist" in said
    assert "Until then the routes stay with Gateway gateways/public, for ctr.example.com." in said
    status = {item.type: item.status for item in after.status.conditions}
    assert (after.status.phase, status["Ready"], status["Stalled"]) == ("Healthy", "True", "True")


def test_a_hostname_moves_once_the_gateway_has_taken_it() -> None:
    memory = Gateways()
    asked = _asked(serving(memory), hostnames=["new.example.com", "ctr.example.com"])
    after = look(memory, asked)
    assert (_hosts(memory), _hosts(memory, "-moving")) == (["ctr.example.com"], ["new.example.com"])
    assert condition_of(after, "RoutesAccepted") == "The gateway has not yet taken what spec.routing names."
    assert next(item.status for item in after.status.conditions if item.type == "Stalled") == "False"
    after = look(memory, after)
    assert _hosts(memory) == ["new.example.com", "ctr.example.com"]
    assert ("HTTPRoute", "ctr-ranker-moving") not in memory.objects
    assert condition_of(look(memory, after), "RoutesAccepted") == "The gateway took the routes."


def test_a_hostname_that_somebody_has_takes_nothing_off_the_air_and_is_taken_once_it_is_free() -> None:
    memory = Gateways()
    memory.taken = {"taken.example.com"}
    asked = _asked(serving(memory), hostnames=["taken.example.com"])
    look(memory, asked)
    after = look(memory, asked)
    said = condition_of(after, "RoutesAccepted")
    assert "refused HTTPRoute ctr-ranker-moving (taken.example.com): Match has conflict." in said
    assert "Until then the routes stay with Gateway gateways/public, for ctr.example.com." in said
    status = {item.type: item.status for item in after.status.conditions}
    assert (_hosts(memory), status["Ready"], status["Stalled"]) == (["ctr.example.com"], "True", "True")
    memory.taken.clear()
    memory.apply(memory.objects["HTTPRoute", "ctr-ranker-moving"])
    look(memory, asked)
    assert _hosts(memory) == ["taken.example.com"]
    assert ("HTTPRoute", "ctr-ranker-moving") not in memory.objects


def test_what_was_asked_before_is_no_answer_to_what_is_asked_now() -> None:
    memory = Gateways()
    served = serving(memory)
    look(memory, _asked(served, hostnames=["first.example.com"]))
    memory.taken = {"second.example.com"}
    look(memory, _asked(served, hostnames=["second.example.com"]))
    assert (_hosts(memory), _hosts(memory, "-moving")) == (["ctr.example.com"], ["second.example.com"])


def test_a_hostname_that_is_given_up_goes_at_once() -> None:
    memory = Gateways()
    served = serving(memory, routing=ROUTING | {"hostnames": ["a.example.com", "b.example.com"]})
    look(memory, _asked(served, hostnames=["a.example.com"]))
    assert _hosts(memory) == ["a.example.com"]


def test_routes_that_are_refused_where_they_stand_move_at_once() -> None:
    memory = Gateways()
    served = serving(memory)
    memory.taken = {"ctr.example.com"}
    memory.apply(memory.objects["HTTPRoute", "ctr-ranker"])
    look(memory, _asked(served, hostnames=["new.example.com"]))
    assert _hosts(memory) == ["new.example.com"]


def test_a_route_that_is_refused_names_its_hosts_and_who_has_them_too() -> None:
    memory = Gateways()
    served = serving(memory)
    route = memory.objects["HTTPRoute", "ctr-ranker"]
    refusal = {"type": "Accepted", "status": "False", "reason": "RuleMatchConflict", "message": "Match has conflict."}
    route["status"] = {"parents": [{"conditions": [refusal | {"observedGeneration": 1}]}]}
    other = {"name": "other-ranker", "labels": {"tidegate.dev/deployment": "other-ranker"}, "generation": 1}
    memory.objects["HTTPRoute", "other-ranker"] = {"kind": "HTTPRoute", "metadata": other, "spec": route["spec"]}
    said = condition_of(look(memory, served), "RoutesAccepted")
    assert "refused HTTPRoute ctr-ranker (ctr.example.com): Match has conflict." in said
    assert "ModelDeployment other-ranker has a hostname of these too" in said
