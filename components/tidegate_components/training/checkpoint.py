"""Checkpoints of a run: plain tensors (safetensors) and one JSON file, whole or absent, for any number of ranks.

A table is kept as the rows that each rank held, so that two ranks can go on where three stopped. What else a step
depends on (order of rows, dropout, ids shown as unknown) is a function of seed, epoch and step, and needs no state.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tidegate_api.errors import TidegateError
from tidegate_components.training.learner import Learner

__all__ = ["CheckpointError", "Position", "clear", "keep", "latest", "load", "position_of", "save"]

_STATE = "state.json"
_KEPT = 2


class CheckpointError(TidegateError):
    """A checkpoint that does not belong to this run."""


@dataclass(frozen=True)
class Position:
    """Where a run stands: after `step` batches of `epoch` (from 0) in `phase`, with what was found so far."""

    phase: str
    epoch: int
    step: int
    config: str
    epochs: list[dict[str, Any]]
    spent: dict[str, float]


def save(folder: Path, learner: Learner, position: Position) -> Path:
    """Write `folder/PHASE-EPOCH-STEP`; older ones but one go. Every rank calls it."""
    target = folder / f"{position.phase}-{position.epoch:05d}-{position.step:09d}"
    keep(target, learner, json.dumps(asdict(position), indent=1))
    if learner.part.rank == 0:
        for old in _whole(folder)[:-_KEPT]:
            shutil.rmtree(old)
    return target


def keep(target: Path, learner: Learner, state: str = "{}") -> None:
    """Write the learner's tensors to the folder `target`: beside it, then renamed. Every rank calls it."""
    beside = target.with_name(f".{target.name}.new")
    first = learner.part.rank == 0
    if first:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
    learner.barrier()
    if first or not learner.replicated:
        save_file(dict(_tables(learner)), beside / f"tables-{learner.part.rank:05d}.safetensors")
    if first:
        save_file(_dense(learner), beside / "dense.safetensors")
        (beside / _STATE).write_text(state)
    learner.barrier()
    if first:
        shutil.rmtree(target, ignore_errors=True)
        os.replace(beside, target)
    learner.barrier()


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint."""
    found = _whole(folder)
    return found[-1] if found else None


def _whole(folder: Path) -> list[Path]:
    """In the order in which they were written: a refit comes after the trial."""
    found = [path for path in folder.glob("*-*-*") if not path.name.startswith(".") and (path / _STATE).is_file()]
    return sorted(found, key=lambda path: (path.name.startswith("refit"), path.name))


def clear(folder: Path) -> None:
    """Remove every checkpoint of a run."""
    shutil.rmtree(folder, ignore_errors=True)


def position_of(checkpoint: Path, config: str) -> Position:
    """Where a checkpoint stands. Raises CheckpointError where another configuration wrote it."""
    position = Position(**json.loads((checkpoint / _STATE).read_text()))
    if position.config != config:
        raise CheckpointError(
            resource=f"checkpoint {checkpoint.name}", field="configuration", value=position.config[:12],
            expected=f"that of this run, {config[:12]}", remedy="resume with the same configuration and data",
        )  # fmt: skip
    return position


@torch.no_grad()
def load(checkpoint: Path, learner: Learner) -> None:
    """Put a checkpoint's tensors into the learner, whatever number of ranks wrote them."""
    for path in sorted(checkpoint.glob("tables-*.safetensors")):
        with safe_open(path, framework="pt") as stored:
            for key in stored.keys():  # noqa: SIM118 - it is no mapping
                _restore(learner, key, stored)
    with safe_open(checkpoint / "dense.safetensors", framework="pt") as stored:
        _load_dense(learner, {key: stored.get_tensor(key) for key in stored.keys()})  # noqa: SIM118


def _tables(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    for shard in learner.shards:
        yield f"{shard.table}@{shard.first}@weights", shard.weights.detach()
        if shard.momentum is not None:
            yield f"{shard.table}@{shard.first}@momentum", shard.momentum.detach().reshape(len(shard.weights), -1)


def _restore(learner: Learner, key: str, stored: Any) -> None:
    """Copy the rows that a stored piece and the shards here have in common."""
    table, first, part = key.rsplit("@", 2)
    piece = stored.get_slice(key)
    start, stop = int(first), int(first) + piece.get_shape()[0]
    for shard in learner.shards:
        low, high = max(start, shard.rows.start), min(stop, shard.rows.stop)
        if shard.table == table and low < high:
            into = shard.weights if part == "weights" else shard.momentum
            assert into is not None  # noqa: S101 - the same optimizer wrote it
            here = into[low - shard.first : high - shard.first]
            here.copy_(piece[low - start : high - start].reshape(here.shape))


def _dense(learner: Learner) -> dict[str, Tensor]:
    found = {f"model/{name}": value for name, value in learner.ranker.state_dict().items()}
    for index, state in learner.dense.state_dict()["state"].items():
        found |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in state.items()}
    return {name: value.detach().clone().contiguous() for name, value in found.items()}


def _load_dense(learner: Learner, stored: dict[str, Tensor]) -> None:
    model = {name.removeprefix("model/"): value for name, value in stored.items() if name.startswith("model/")}
    learner.ranker.load_state_dict(model)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in stored.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/", 2)
            state.setdefault(int(index), {})[key] = value
    learner.dense.load_state_dict(learner.dense.state_dict() | {"state": state})
