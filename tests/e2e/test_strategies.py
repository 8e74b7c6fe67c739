"""Blue-green and A/B test, switched, gone back and counted: on the real cluster, under traffic."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from deployed import LONGEST, RATE, SCALING, all_answered, answer, ask, deployed
from live import REVISION_HEADER, Live, Trained, stable_is

from tidegate_demo.facts import requests_of
from tidegate_demo.traffic import traffic

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

BUCKET = "x-bucket"


def test_blue_green_previews_switches_at_once_and_goes_back_in_seconds(
    shop: Live, trained: Trained, bodies: Path, tmp_path: Path
) -> None:
    name = "switch"
    preview = f"next.{shop.host(name)}"
    plan = {"autoPromotionEnabled": False, "scaleDownDelay": "15s", "previewHostnames": [preview]}
    with (
        deployed(shop, trained, name, strategy={"blueGreen": plan}, analysis={"metrics": []}, scaling=SCALING),
        traffic(shop.target(name), bodies, RATE, LONGEST, tmp_path / "counts.json") as running,
    ):
        shop.name_version(trained.second, name)
        shop.wait_for(name, lambda found: "waits until" in (found.status.message or ""), 120, "the preview stands")
        revision = shop.deployment(name).status.canary
        assert revision is not None
        assert ask(shop, preview, bodies.read_text().splitlines()[0]) == 200
        shop.plugin("promote", name)
        shop.wait_for(name, lambda found: found.status.weight == 100, 30, "all traffic is switched")
        shop.cluster.kubectl.run(
            "wait", f"md/{name}", "-n", shop.namespace, "--for=condition=Reconciling=False", "--timeout=60s"
        )
        assert stable_is(trained.second)(shop.deployment(name))
        begin = time.monotonic()
        shop.plugin("undo", name)
        shop.wait_for(name, stable_is(trained.first), 60, "the old revision is back")
        assert time.monotonic() - begin < 60
        all_answered(running, shop, 3000)
        history = shop.deployment(name).status.history
        assert [entry.reason for entry in history] == ["FirstRevision", "PromotedByPerson", "Undone", "Undone"]


def test_a_test_s_shares_are_exact_and_nobody_flips(shop: Live, trained: Trained, bodies: Path) -> None:
    name, percent, each = "test", 30, 3
    strategy = {"abTest": {"header": BUCKET, "percent": percent, "minDuration": "1h"}}
    lines = bodies.read_text().splitlines()
    with deployed(shop, trained, name, strategy=strategy, scaling=SCALING):
        shop.name_version(trained.second, name)
        found = shop.wait_for(
            name, lambda f: f.status.canary is not None and f.status.canary.weight_since is not None, 120, "it runs"
        )
        assert found.status.canary is not None
        assert found.status.stable is not None
        stable, canary = found.status.stable.hash, found.status.canary.revision.hash
        before = requests_of(shop.addresses, name, stable)[0]
        for bucket in range(100):
            answers = [answer(shop, shop.host(name), lines[k], **{BUCKET: str(bucket)}) for k in range(each)]
            told = {(answer.status_code, answer.headers[REVISION_HEADER]) for answer in answers}
            assert told == {(200, canary if bucket < percent else stable)}
        assert all(ask(shop, shop.host(name), line) == 200 for line in lines[:50])
        wanted = (each * (100 - percent), each * percent)

        def counted() -> tuple[bool, str]:
            now = requests_of(shop.addresses, name, stable)[0] - before, requests_of(shop.addresses, name, canary)[0]
            return now == wanted, f"{now}, wanted {wanted}"

        shop.cluster.wait(
            counted, 30, "each side has had its buckets, and whoever has no bucket is counted for neither"
        )
