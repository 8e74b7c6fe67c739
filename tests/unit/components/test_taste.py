"""Taste: what a user thought of other films orders the films that come next, and no row tells itself its label."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.join import join_views
from tidegate_components.models.arrays import Arrays
from tidegate_components.models.config import parse_config
from tidegate_components.models.inputs import HISTORY, Bag, Inputs
from tidegate_components.models.taste import Taste, fit_taste
from tidegate_components.packaging.onnx_export import check_parity, export_onnx
from tidegate_components.training.gathering import gather
from tidegate_components.training.learner import alone
from tidegate_components.training.rows import ArrayRows
from tidegate_components.training.steps import score

SLOTS = 4
VIEW = Path(__file__).parents[3] / "manifests" / "examples" / "user-history.yaml"


def inputs_of(users: int, films: int) -> Inputs:
    history = Bag(HISTORY, tuple(f"h{i}" for i in range(SLOTS)), 2 * films, 1, 0.02, "user-history", "0" * 64)
    return Inputs((Bag("user", ("user_id",), users, 1, 0.1), Bag("item", ("item_id",), films, 1, 0.1), history), ())


def two_camps(users: int = 200, films: int = 21, seed: int = 5) -> tuple[Arrays, Inputs]:
    """Users of odd number like films of odd number and no other; each row knows the four films seen before."""
    rng, ids, labels = np.random.default_rng(seed), [], []
    for user in range(1, users):
        seen = rng.permutation(np.arange(1, films))[:10]
        likes = (seen % 2 == user % 2).astype(int)
        tokens = [0] * SLOTS + (2 * seen + likes).tolist()
        ids += [[user, film, *reversed(tokens[at : at + SLOTS])] for at, film in enumerate(seen)]
        labels += likes.tolist()
    rows = Arrays(np.array(ids), np.zeros((len(ids), 0), np.float32), np.array(labels, np.float32))
    return rows, inputs_of(users, films)


def test_films_that_the_same_users_liked_speak_for_each_other() -> None:
    taste, _ = fit_taste(*two_camps())
    stranger = torch.tensor([[0, 7, 2 * 3 + 1, 2 * 5 + 1, 2 * 4, 0], [0, 8, 2 * 3 + 1, 2 * 5 + 1, 2 * 4, 0]])
    like, dislike = taste(stranger)[:, 2].tolist()
    assert like > 0.5 > -0.5 > dislike


def test_a_user_who_likes_more_than_others_is_lenient() -> None:
    taste, _ = fit_taste(*two_camps())
    kind, strict, unknown = taste(torch.tensor([[0, 1, 7, 9, 5, 3], [0, 1, 6, 8, 4, 2], [0, 1, 0, 0, 0, 0]]))[:, 0]
    assert kind > unknown > strict


def test_a_row_is_not_told_what_its_own_user_said() -> None:
    """Films 1 and 2 were rated together by one user only: to that user's rows they must be strangers."""
    ids = np.array([[1, 1, 0, 0, 0, 0], [1, 2, 3, 0, 0, 0], [2, 3, 0, 0, 0, 0], [3, 4, 0, 0, 0, 0]])
    rows = Arrays(ids, np.zeros((4, 0), np.float32), np.array([1, 1, 0, 0], np.float32))
    taste, numbers = fit_taste(rows, inputs_of(5, 5))
    to_a_stranger = taste(torch.tensor([[4, 2, 3, 0, 0, 0]]))[0, 2]
    assert numbers[1, 2] == numbers[0, 2]
    assert to_a_stranger != numbers[1, 2]


def test_learning_and_serving_agree_where_the_user_told_nothing() -> None:
    """A user without an id in reach of the fit: leaving it out changes nothing but the rank of the factors."""
    rows, inputs = two_camps()
    apart = np.flatnonzero(rows.ids[:, 0] > 190)
    beyond = rows.ids[apart].copy()
    beyond[:, 1] += 5000
    ids = np.concatenate([np.delete(rows.ids, apart, axis=0), beyond])
    labels = np.concatenate([np.delete(rows.labels, apart), rows.labels[apart]])
    taste, numbers = fit_taste(Arrays(ids, np.zeros((len(ids), 0), np.float32), labels), inputs)
    served = taste(torch.from_numpy(beyond))
    torch.testing.assert_close(served, numbers[-len(beyond) :], atol=1e-4, rtol=1e-4)


def test_without_a_history_there_is_no_taste() -> None:
    rows, inputs = two_camps()
    plain = replace(inputs, bags=inputs.bags[:2])
    taste, numbers = fit_taste(replace(rows, ids=rows.ids[:, :2]), plain)
    assert numbers.shape == (len(rows.labels), 0)
    assert taste(torch.from_numpy(rows.ids[:3, :2])).shape == (3, 0)


def test_training_form_twin_and_onnx_tell_the_same_of_a_history(tmp_path: Path) -> None:
    rows, inputs = two_camps()
    config = parse_config({"model": {"name": "wide_deep", "embedding_dim": 4, "hidden": [8]}})
    learner = alone(inputs, config, fit_taste(rows, inputs)[0])
    torch.nn.init.normal_(learner.ranker.net.wide_numbers.weight)
    trained = score(learner, ArrayRows(rows, np.zeros((len(rows.labels), 3), np.float32)), inputs, "fp32").scores
    twin = gather(learner, inputs, config.model)
    assert twin is not None
    np.testing.assert_allclose(trained, twin.scores(rows.ids, rows.dense), atol=1e-6)
    assert twin.ranker.taste.left.abs().sum() > 0
    strangers = rows.ids.copy()
    strangers[:20] *= np.arange(-3, 17)[:, None] * 1_000_003
    export_onnx(twin, tmp_path / "model.onnx", rows)
    check_parity(twin, tmp_path / "model.onnx", replace(rows, ids=strangers))


def test_ids_beyond_the_tables_have_no_taste() -> None:
    taste: Taste = fit_taste(*two_camps())[0]
    unknown, none = taste(torch.tensor([[0, 3, 90_001, -7, 1, 999], [0, 3, 0, 0, 0, 0]]))
    assert torch.equal(unknown, none)


def test_the_history_holds_what_came_before_newest_first(tmp_path: Path) -> None:
    """Twenty-nine ratings, two in each second: every row up to 16, then every eighth, and never the row's own."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    when = [start + timedelta(seconds=n // 2) for n in range(29)]
    rating = [float(n % 5 + 1) for n in range(29)]
    log = pa.table({
        "user_id": [1] * 29, "item_id": list(range(101, 130)), "event_time": pa.array(when, pa.timestamp("us", "UTC")),
        "behavior": ["rating"] * 29, "rating": rating,
    })  # fmt: skip
    (tmp_path / "interactions").mkdir()
    pq.write_table(log, tmp_path / "interactions" / "part-0.parquet")
    joined = join_views(log, "event_time", [FeatureView.load(VIEW)], claims={"lake": tmp_path})
    tokens = [2 * (101 + n) + (rating[n] >= 4) for n in range(29)]
    for n, row in enumerate(joined.to_pylist()):
        known = n // 2 * 2
        written = known if known <= 16 else known // 8 * 8
        expected = ([*reversed(tokens[:written])] + [0] * 64)[:64]
        assert [row[f"user-history__opinion_{k}"] for k in range(1, 65)] == expected, n
