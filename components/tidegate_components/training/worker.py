"""One rank of a training run: what torchrun, horovodrun and a TrainJob start.

torchrun --standalone --nproc-per-node 2 -m tidegate_components.training.worker --order ORDER.json
torchrun -m tidegate_components.training.worker --order '{"config": ...}'
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tidegate_api.errors import TidegateError
from tidegate_components.models.config import parse_config
from tidegate_components.training.run import Order, prepare_process, run

__all__ = ["main", "order_text", "parse_order", "read_order", "write_order"]

ENGINES = ("alone", "sharded", "replicated")


def order_text(order: Order) -> str:
    """An order as JSON, the same for the same order."""
    paths = {name: str(getattr(order, name) or "") for name in ("train", "valid", "out", "start")}
    config = order.config.model_dump(mode="json")
    more = {"keep": list(order.keep)} if order.keep else {}
    return json.dumps({"config": config, "resume": order.resume, "restarts": order.restarts, **paths, **more})


def parse_order(text: str) -> Order:
    """The inverse of order_text."""
    said = json.loads(text)
    start = Path(said["start"]) if said["start"] else None
    train, valid, out = (Path(said[name]) for name in ("train", "valid", "out"))
    config, keep = parse_config(said["config"]), tuple(said.get("keep", ()))
    return Order(config, train, valid, out, start, said["resume"], said["restarts"], keep)


def write_order(path: Path, order: Order) -> None:
    """An order as JSON, for ranks to read."""
    path.write_text(order_text(order))


def read_order(path: Path) -> Order:
    """The inverse of write_order."""
    return parse_order(path.read_text())


def main() -> int:
    """Take part in the run; 2 where the input is bad, with the sentence on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--order", required=True, help="a file, or the order itself")
    parser.add_argument("--engine", choices=ENGINES, default="sharded")
    given = parser.parse_args()
    prepare_process()
    try:
        order = parse_order(given.order) if given.order.startswith("{") else read_order(Path(given.order))
        run(order, _engine(given.engine), lambda text: print(text, file=sys.stderr, flush=True))
    except TidegateError as error:
        print(f"tidegate: {error}", file=sys.stderr)
        return 2
    return 0


def _engine(name: str):  # type: ignore[no-untyped-def]
    if name == "sharded":
        from tidegate_components.training.sharded import sharded

        return sharded
    if name == "replicated":
        from tidegate_components.training.replicated import replicated

        return replicated
    from tidegate_components.training.learner import alone

    return alone


if __name__ == "__main__":
    sys.exit(main())
