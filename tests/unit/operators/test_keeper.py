"""When the operator looks again, and at what."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from cluster_in_memory import (
    CRON,
)
from tidegate_operators.adapters.errors import RefusedError
from tidegate_operators.handlers.keeper import Keeper, retry_after, spread


def test_each_failure_is_waited_for_longer_up_to_an_end() -> None:
    assert [retry_after(n).total_seconds() for n in (1, 2, 3, 4, 5, 6, 100)] == [5, 10, 20, 40, 80, 120, 120]


def test_what_was_made_together_is_looked_at_in_turn() -> None:
    waits = [spread(("ModelDeployment", "shop", f"m{n}"), timedelta(minutes=10)).total_seconds() for n in range(1000)]
    assert 480 <= min(waits) < 490
    assert 590 < max(waits) <= 600
    most = max(sum(begin <= wait < begin + 10 for wait in waits) for begin in range(480, 600, 10))
    assert most < 130, "of 1,000 in a sixth of the time"
    assert spread(("ModelDeployment", "shop", "m"), timedelta(seconds=10)) == timedelta(seconds=10)


def test_what_can_be_expected_is_one_line_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def look(key: object) -> timedelta | None:
        raise RefusedError("InvalidSpec", CRON)

    async def once() -> None:
        keeper = Keeper(look)
        keeper.lead(True)
        keeper.keep(("FeatureView", "shop", "user-activity"))
        while not caplog.records:
            await asyncio.sleep(0.01)
        keeper.forget(("FeatureView", "shop", "user-activity"))

    asyncio.run(once())
    assert [(record.getMessage(), record.exc_info) for record in caplog.records][:1] == [(CRON, None)]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_deleted_object_is_looked_at_once_more() -> None:
    looks: list[object] = []

    def look(key: object) -> timedelta | None:
        looks.append(key)
        return timedelta(hours=1)

    async def story() -> None:
        keeper = Keeper(look)
        keeper.lead(True)
        keeper.keep(("ModelDeployment", "shop", "x"))
        while not looks:
            await asyncio.sleep(0.01)
        keeper.forget(("ModelDeployment", "shop", "x"))
        while len(looks) < 2:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(story(), 10))
    assert len(looks) == 2
