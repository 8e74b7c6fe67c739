"""Batches in an order that is a pure function of seed and epoch, read ahead by a thread.

Every rank draws the same order and keeps each `world`-th row of a batch: two ranks see, step by step, the rows that one
process would. Each rank reads all row groups for it, which costs little beside a training step.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from tidegate_components.models.config import ConfigError
from tidegate_components.training.rows import Block, Rows, joined

T = TypeVar("T")

__all__ = ["Part", "ahead", "batches", "check_even", "places_of", "steps_of"]


@dataclass(frozen=True)
class Part:
    """Which share of every batch this process works on."""

    rank: int = 0
    world: int = 1


def check_even(batch_size: int, world: int) -> None:
    """Raise ConfigError where ranks cannot share a batch evenly."""
    if batch_size % world:
        raise ConfigError(
            resource="training configuration", field="training.batch_size", value=batch_size,
            expected=f"a multiple of the {world} ranks", remedy="change it, or the number of ranks",
        )  # fmt: skip


def steps_of(rows: int, size: int) -> int:
    """Batches in one pass; the last may be smaller."""
    return -(-rows // size)


def batches(rows: Rows, size: int, seed: tuple[int, ...] | None, part: Part, skip: int = 0) -> Iterator[Block]:
    """The batches of one pass from the `skip`-th on.

    Without a seed in the order in which the rows lie. Where the rows of the last batch do not divide among the ranks,
    some get its last row once more: with weight 0 where a seed says that rows are learned from.
    """
    rng = np.random.default_rng(seed) if seed is not None else None
    left: Block | None = None
    done = 0
    for block in rows.blocks(rng):
        whole = joined(left, block) if left is not None else block
        places = rng.permutation(len(whole)) if rng else np.arange(len(whole))
        full = len(whole) // size
        for step in range(full):
            if done + step >= skip:
                yield whole.take(places[step * size : (step + 1) * size][part.rank :: part.world])
        done += full
        left = whole.take(places[full * size :])
    if left is None or done < skip:
        return
    if len(left):
        share = left.take(places_of(len(left), part))
        yield share if rng is None else _weighted(share, len(left), part)


def _weighted(share: Block, rows: int, part: Part) -> Block:
    """A rank's share of `rows` rows, so that the mean over shares of the means over rows is the mean over the rows."""
    slots = len(share) * part.world
    own = np.arange(slots)[part.rank :: part.world] < rows
    return replace(share, weights=(share.weights * own * (slots / rows)).astype(share.weights.dtype))


def places_of(rows: int, part: Part) -> np.ndarray[Any, Any]:
    """A rank's places of so many rows, as many as any other's: the last one stands in where they do not divide."""
    return np.minimum(np.arange(-(-rows // part.world) * part.world), rows - 1)[part.rank :: part.world]


def ahead(items: Iterator[T], most: int = 4) -> Iterator[T]:
    """The same items, made by a thread up to `most` before they are asked for; its errors are raised here."""
    line: queue.Queue[tuple[str, Any]] = queue.Queue(most)
    stop = threading.Event()

    def work() -> None:
        try:
            for item in items:
                if not _put(line, ("item", item), stop):
                    return
            _put(line, ("end", None), stop)
        except BaseException as error:
            _put(line, ("error", error), stop)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            kind, item = line.get()
            if kind == "end":
                return
            if kind == "error":
                raise item
            yield item
    finally:
        stop.set()


def _put(line: queue.Queue[tuple[str, Any]], entry: tuple[str, Any], stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            line.put(entry, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
