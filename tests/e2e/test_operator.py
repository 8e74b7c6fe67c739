"""Two operators, and somebody who writes all the time: on the real cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from deployed import SCALING, deployed
from kubernetes import client, config
from live import Live, Trained, stable_is

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@contextmanager
def _rewritten(shop: Live, name: str) -> Iterator[list[int]]:
    """Somebody changes the deployment's annotations as fast as the API server takes it; yields how often."""
    config.load_kube_config(shop.cluster.kubectl.kubeconfig)
    api, over, times = client.CustomObjectsApi(), threading.Event(), [0]
    where = ("tidegate.dev", "v1alpha1", shop.namespace, "modeldeployments", name)

    def rewrite() -> None:
        while not over.wait(0.02):
            times[0] += 1
            body = {"metadata": {"annotations": {"example.com/storm": str(times[0])}}}
            api.patch_namespaced_custom_object(*where, body)

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        yield times
    finally:
        over.set()
        thread.join()


def test_a_rollout_ends_though_somebody_rewrites_the_deployment_all_the_time(shop: Live, trained: Trained) -> None:
    name = "contended"
    with (
        deployed(shop, trained, name, scaling=SCALING, analysis={"metrics": []}),
        _rewritten(shop, name) as times,
    ):
        shop.name_version(trained.second, name)
        shop.wait_for(name, stable_is(trained.second), 120, "it is promoted")
        assert times[0] > 100
        assert shop.deployment(name).metadata.annotations["example.com/storm"], (
            "the operator's writes took nothing away"
        )


def test_another_operator_takes_over_when_the_leader_dies(live: Live, shop: Live, trained: Trained) -> None:
    name = "leaders"
    live.scale("tidegate-operator", 2)
    try:
        with deployed(shop, trained, name, scaling=SCALING, analysis={"metrics": []}):
            leader = live.leader()
            shop.name_version(trained.second, name)
            live.cluster.kubectl.run("delete", "pod", leader, "-n", "tidegate-system", "--force", "--grace-period=0")
            shop.wait_for(name, stable_is(trained.second), 180, "the other one finishes the rollout")
            assert live.leader() != leader
    finally:
        live.scale("tidegate-operator", 1)
