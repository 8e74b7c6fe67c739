"""Browsing feature views, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidegate_pipelines.cli import app

VIEWS = Path(__file__).parents[3] / "manifests" / "examples"
runner = CliRunner()


def names(*words: str) -> list[str]:
    done = runner.invoke(app, ["features", "list", *words, "--views", str(VIEWS), "--json"])
    assert done.exit_code == 0, done.output
    return [view["name"] for view in json.loads(done.stdout)]


def test_views_are_found_by_words_tags_and_owner() -> None:
    assert {"item-popularity", "user-activity"} <= set(names())
    assert names("popularity", "--tag", "item") == ["item-popularity"]
    assert "user-activity" in names("CLICKED user", "--owner", "ranking")
    assert names("--owner", "nobody") == []


def test_a_view_tells_how_each_feature_is_computed() -> None:
    done = runner.invoke(app, ["features", "show", "item-popularity", "--views", str(VIEWS)])
    assert "item_id Int64" in done.stdout
    assert "where behavior = 'click'" in done.stdout


@pytest.mark.parametrize("verb", ["show", "lineage"])
def test_an_unknown_view_is_told_with_those_that_are_there(verb: str) -> None:
    done = runner.invoke(app, ["features", verb, "nope", "--views", str(VIEWS)])
    assert done.exit_code == 2
    assert "name is 'nope', expected one of item-popularity, " in done.stderr
