"""What a model looks at: permutation importance of each input, and what each input does to a single prediction.

An input is a bag of ids or a number. Permutation importance (Breiman 2001; Fisher, Rudin & Dominici 2019) shuffles it
between the rows and sees how much AUC is lost. The attribution of a prediction is by feature ablation (Captum): the
score less the score without that input: an id is missing, a list empty, and a number the median of the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate_components.evaluation.estimates import student
from tidegate_components.evaluation.metrics import auc
from tidegate_components.models.inputs import MISSING

if TYPE_CHECKING:
    from tidegate_components.models.arrays import Arrays
    from tidegate_components.models.inputs import Inputs
    from tidegate_components.models.scoring import Scorer

__all__ = ["Importance", "attributions", "input_names", "permutation_importance", "some_rows"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Importance:
    """AUC that is lost, on average over repeats, when an input is shuffled between rows; the interval is of repeats."""

    name: str
    loss: float
    low: float
    high: float


def input_names(inputs: Inputs) -> list[str]:
    """Bags first, then numbers; crosses are no inputs of their own."""
    return [bag.name for bag in inputs.bags if bag.columns] + list(inputs.numeric_columns)


def _columns(inputs: Inputs) -> list[tuple[str, list[int]]]:
    """Of each input: the tensor it lies in, ids or dense, and its columns there."""
    found, start = [], 0
    for bag in (bag for bag in inputs.bags if bag.columns):
        found.append(("ids", list(range(start, start + len(bag.columns)))))
        start += len(bag.columns)
    return found + [("dense", [place]) for place in range(len(inputs.numeric_columns))]


def some_rows(rows: Arrays, most: int, seed: int = 7) -> Arrays:
    """At most so many rows, drawn evenly and kept in order."""
    if len(rows.labels) <= most:
        return rows
    index = np.sort(np.random.default_rng(seed).choice(len(rows.labels), most, replace=False))
    return type(rows)(rows.ids[index], rows.dense[index], rows.labels[index])


def permutation_importance(
    score: Callable[[Array, Array], Array], rows: Arrays, inputs: Inputs, repeats: int = 5, seed: int = 7
) -> list[Importance]:
    """The inputs by what they are worth, greatest first. `score` takes ids [N, C] and dense [N, D] to scores [N]."""
    rng = np.random.default_rng(seed)
    whole = auc(rows.labels, score(rows.ids, rows.dense))
    found = []
    for name, (tensor, columns) in zip(input_names(inputs), _columns(inputs), strict=True):
        losses = [whole - _shuffled(score, rows, tensor, columns, rng) for _ in range(repeats)]
        found.append(_summed_up(name, np.array(losses)))
    return sorted(found, key=lambda one: -one.loss)


def _shuffled(
    score: Callable[[Array, Array], Array], rows: Arrays, tensor: str, columns: list[int], rng: np.random.Generator
) -> float:
    parts = {"ids": rows.ids, "dense": rows.dense}
    parts[tensor] = parts[tensor].copy()
    order = rng.permutation(len(rows.labels))
    parts[tensor][:, columns] = parts[tensor][order][:, columns]
    return auc(rows.labels, score(parts["ids"], parts["dense"]))


def _summed_up(name: str, losses: Array) -> Importance:
    mean, count = float(losses.mean()), len(losses)
    if count < 2:
        return Importance(name, mean, mean, mean)
    reach = student(0.95, count - 1) * float(losses.std(ddof=1)) / math.sqrt(count)
    return Importance(name, mean, mean - reach, mean + reach)


def attributions(scorer: Scorer, rows: Arrays) -> Array:
    """What each input does to each score, [N, inputs] in the order of `input_names`: score less score without it."""
    import torch
    from captum.attr import FeatureAblation

    columns = _columns(scorer.inputs)
    masks = {"ids": np.zeros(rows.ids.shape[1], np.int64), "dense": np.zeros(rows.dense.shape[1], np.int64)}
    for number, (tensor, places) in enumerate(columns):
        masks[tensor][places] = number
    used = [tensor for tensor in ("ids", "dense") if len(masks[tensor])]
    given = {"ids": torch.from_numpy(rows.ids), "dense": torch.from_numpy(rows.dense)}
    nobody = torch.full((1, rows.ids.shape[1]), MISSING, dtype=torch.int64)
    absent = {"ids": nobody, "dense": torch.from_numpy(_medians(rows.dense))}

    def forward(*tensors: torch.Tensor) -> torch.Tensor:
        parts = given | dict(zip(used, tensors, strict=True))
        found: torch.Tensor = scorer(parts["ids"], parts["dense"])[:, 0]
        return found

    with torch.no_grad():
        found = FeatureAblation(forward).attribute(
            tuple(given[tensor] for tensor in used),
            baselines=tuple(absent[tensor] for tensor in used),
            feature_mask=tuple(torch.from_numpy(masks[tensor])[None] for tensor in used),
        )
    told = dict(zip(used, found, strict=True))
    return np.stack([told[tensor][:, places[0]].numpy() for tensor, places in columns], axis=1).astype(np.float64)


def _medians(dense: Array) -> Array:
    """Medians [1, D] of what is there."""
    known = np.where(np.isnan(dense).all(axis=0), 0.0, dense)
    return np.nanmedian(known, axis=0, keepdims=True).astype(dense.dtype)
