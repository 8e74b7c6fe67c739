"""Training next to FuxiCTR, deepctr-torch and plain torch: `python benchmarks/training.py [--rows N] [--peer-rows N]`.

A seeded set of Criteo's shape (criteo_shaped.py), embedding 16, hidden layers 128 and 64, batch 4096, one pass. Every
contender runs in a process of its own. CPU seconds are of the training steps with their reading, the first ten batches
and start-up left out. Peers learn from fewer rows, since their cost per row does not fall with more; their AUC is of
these rows only. "plain torch" is the best we could write: one stacked nn.Embedding(sparse=True), SparseAdam.
The parts of a step are measured alone, on the same shapes: their sum is the ceiling that a step can reach.
--search tells the AUC of deepfm at several learning rates of its tables, ours and plain torch's, instead of all that.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from criteo_shaped import CATEGORIES, NUMBERS, SIZES, write
from peers.environment import DEEPCTR, FUXICTR, python_with

PEERS = {"fuxictr": FUXICTR, "deepctr": DEEPCTR}
BATCH, DIM, HIDDEN = 4096, 16, (128, 64)
SPARSE_RATE = 0.04
SPARSE_RATES, ADAM_RATES = (0.01, 0.02, 0.04, 0.07, 0.12), (0.0003, 0.001, 0.003, 0.01, 0.03)
_SKIPPED = 10
Row = dict[str, Any]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=4_000_000)
    arguments.add_argument("--peer-rows", type=int, default=160_000, help="rows of the slow peers; 0 leaves them out")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--data", type=Path, help="folder with train.parquet and valid.parquet; else they are made")
    arguments.add_argument("--search", action="store_true", help="learning rates instead of speed")
    arguments.add_argument("--contender", nargs="+", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.contender:
        name, folder, *rest = given.contender
        print(json.dumps(CONTENDERS[name](Path(folder), *rest)))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = given.data or Path(made)
        if not given.data:
            write(folder, given.rows)
        if given.search:
            search(folder, given.threads)
        else:
            compare(folder, given.threads, given.peer_rows)


def compare(folder: Path, threads: int, peer_rows: int) -> None:
    one = {"threads": threads}
    rows = {
        f"tidegate {name}": contend("tidegate", folder, name, **one)
        for name in ("deepfm", "wide_deep", "dcn_v2", "dlrm")
    }
    rows["tidegate deepfm, 2 ranks"] = contend("ranks", folder, threads=1)
    rows["plain torch deepfm"] = contend("plain", folder, **one)
    if peer_rows:
        rows["FuxiCTR deepfm"] = contend("fuxictr", folder, str(peer_rows), **one)
        rows["deepctr-torch deepfm"] = contend("deepctr", folder, str(peer_rows), **one)
    show(rows, threads)
    for name in ("deepfm", "wide_deep", "dcn_v2"):
        parts = contend("parts", folder, name, **one)
        show_parts(name, parts, rows[f"tidegate {name}"])


def search(folder: Path, threads: int) -> None:
    """The same number of rates for both, after the same rows; each two to three times the one before it."""
    ours = [("tidegate, row-wise Adagrad", ("tidegate", "deepfm", str(rate))) for rate in SPARSE_RATES]
    theirs = [("plain torch, SparseAdam", ("plain", str(rate))) for rate in ADAM_RATES]
    for who, (name, *more) in ours + theirs:
        row = contend(name, folder, *more, threads=threads)
        print(f"{who + ' at ' + more[-1]:<40}{row.get('failed') or format(row['auc'], '.4f')}", flush=True)


def contend(name: str, folder: Path, *more: str, threads: int) -> Row:
    python = python_with(*PEERS[name]) if name in PEERS else [sys.executable, "-W", "ignore"]
    said = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    done = subprocess.run(
        [*python, __file__, "--contender", name, str(folder), *more],
        capture_output=True, text=True, check=False, env=os.environ | said,
    )  # fmt: skip
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["?"])[-1][:100]}
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


def show(rows: dict[str, Row], threads: int) -> None:
    print(
        f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {threads} threads; batch {BATCH}, hidden {HIDDEN}"
    )
    heads = ("examples/s", "CPU s / 1M", "rel. to first", "AUC", "peak GB", "rows")
    print(f"{'':<28}" + "".join(f"{head:>14}" for head in heads))
    first = next(iter(rows.values())).get("cpu", float("nan"))
    for name, row in rows.items():
        if "failed" in row:
            print(f"{name:<28}{row['failed']}")
            continue
        figures = f"{row['rate']:>14,.0f}{row['cpu']:>14.1f}{row['cpu'] / first:>14.2f}{row['auc']:>14.4f}"
        print(f"{name:<28}{figures}{row['memory']:>14.2f}{row['rows']:>14,}", flush=True)


def show_parts(name: str, parts: Row, ours: Row) -> None:
    if "failed" in parts or "failed" in ours:
        print(f"{name}: {parts.get('failed', '')}")
        return
    total = sum(parts.values())
    told = ", ".join(f"{part} {seconds:.1f}" for part, seconds in parts.items())
    print(f"{name}: parts alone, CPU s / 1M: {told}; sum {total:.1f} = {total / ours['cpu']:.0%} of a step's")


class Clock:
    """Wall and CPU of the steps after the first ten."""

    def __init__(self) -> None:
        self.steps = 0

    def tick(self) -> None:
        """One step is done."""
        self.steps += 1
        if self.steps == _SKIPPED:
            self.began = time.monotonic(), time.process_time()

    def row(self, auc: float, rows: int, ended: tuple[float, float] | None = None) -> Row:
        """The figures; `ended` where it was taken before something else was done."""
        wall, cpu = ended or (time.monotonic(), time.process_time())
        count = (self.steps - _SKIPPED) * BATCH
        return {
            "rate": count / (wall - self.began[0]), "cpu": 1e6 * (cpu - self.began[1]) / count,
            "auc": auc, "rows": rows, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        }  # fmt: skip


def configured(name: str, sparse_rate: float = SPARSE_RATE) -> Any:
    from tidegate_components.models.config import parse_config

    return parse_config({
        "model": {"name": name, "embedding_dim": DIM, "hidden": HIDDEN, "bottom": [64]},
        "inputs": {
            "numeric": [{"column": column, "transform": "log1p"} for column in NUMBERS],
            "categorical": [{"column": c, "rows": size} for c, size in zip(CATEGORIES, SIZES, strict=True)],
        },
        "training": {"batch_size": BATCH, "sparse": {"learning_rate": sparse_rate}},
    })  # fmt: skip


def tidegate(folder: Path, name: str, sparse_rate: str = str(SPARSE_RATE)) -> Row:
    from tidegate_components.training.learner import alone
    from tidegate_components.training.loop import Hooks, fit

    clock, ended = Clock(), []

    def passed(phase: str, epoch: int, passed: Any, steps: int) -> None:
        clock.tick()
        if passed.step == steps:
            ended.append((time.monotonic(), time.process_time()))

    sets = [folder / "train.parquet"], [folder / "valid.parquet"]
    fitted = fit(*sets, configured(name, float(sparse_rate)), alone, Hooks(passed=passed))
    return clock.row(fitted.epochs[-1].validation_auc, fitted.rows, ended[0])


def ranks(folder: Path) -> Row:
    """As `tidegate train --launcher torchrun --nproc 2` says in metrics.json: of the learning steps on both ranks."""
    from tidegate_components.training.launch import launch
    from tidegate_components.training.run import Order

    with tempfile.TemporaryDirectory() as out:
        order = Order(configured("deepfm"), folder / "train.parquet", folder / "valid.parquet", Path(out))
        found = launch(order, "torchrun", 2, lambda text: None)
    memory = max(found["peak_memory_bytes_by_rank"]) / 1e9
    cpu = found["cpu_seconds_per_million_examples"]
    return {
        "rate": found["examples_per_second"],
        "cpu": cpu,
        "auc": found["auc"],
        "rows": found["rows"],
        "memory": memory,
    }


def arrays(path: Path, rows: int | None = None) -> tuple[Any, Any, Any]:
    """Numbers as the others read them too, log1p and standardized, ids, labels; all in memory."""
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    table = table.slice(0, rows or table.num_rows)
    numbers = np.log1p(np.maximum(np.stack([table[n].to_numpy() for n in NUMBERS], 1), 0)).astype(np.float32)
    numbers = (numbers - numbers.mean(0)) / numbers.std(0)
    return numbers, np.stack([table[c].to_numpy() for c in CATEGORIES], 1), table["label"].to_numpy().astype(np.float32)


def auc_of(labels: Any, scores: Any) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def plain(folder: Path, sparse_rate: str = "0.001") -> Row:
    import numpy as np
    import torch
    from torch import nn

    numbers, ids, labels = map(torch.from_numpy, arrays(folder / "train.parquet"))
    starts = torch.tensor(np.cumsum([0, *SIZES[:-1]]))
    table = nn.Embedding(sum(SIZES), DIM + 1, sparse=True)
    nn.init.uniform_(table.weight, -0.05, 0.05)
    number_vectors = nn.Parameter(torch.empty(13, DIM).uniform_(-0.05, 0.05))
    width = 26 * DIM + 13
    net = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1))
    first = nn.Linear(13, 1)
    dense = torch.optim.AdamW([number_vectors, *net.parameters(), *first.parameters()], 1e-3, weight_decay=0)
    sparse = torch.optim.SparseAdam(table.parameters(), float(sparse_rate))

    def logits(x: Any, rows: Any) -> Any:
        found = table(rows + starts)
        vectors, linear = found[:, :, :DIM], found[:, :, DIM].sum(1)
        summed = vectors.sum(1) + x @ number_vectors
        squares = vectors.square().sum((1, 2)) + x.square() @ number_vectors.square().sum(1)
        deep = net(torch.cat([vectors.flatten(1), x], 1))[:, 0]
        return linear + first(x)[:, 0] + 0.5 * (summed.square().sum(1) - squares) + deep

    clock = Clock()
    for batch in torch.split(torch.randperm(len(labels), generator=torch.Generator().manual_seed(7)), BATCH)[:-1]:
        loss = nn.functional.binary_cross_entropy_with_logits(logits(numbers[batch], ids[batch]), labels[batch])
        dense.zero_grad(), sparse.zero_grad()
        loss.backward()
        dense.step(), sparse.step()
        clock.tick()
    ended = time.monotonic(), time.process_time()
    x, rows, truth = map(torch.from_numpy, arrays(folder / "valid.parquet"))
    with torch.no_grad():
        scores = torch.cat([logits(*part) for part in zip(x.split(8192), rows.split(8192), strict=True)])
    return clock.row(auc_of(truth, scores), len(labels), ended)


def fuxictr(folder: Path, rows: str) -> Row:
    """DeepFM as its model zoo writes it, of its own layers, with its defaults: Adam on everything."""
    from collections import OrderedDict

    import torch
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.layers import FactorizationMachine, FeatureEmbedding, MLP_Block
    from fuxictr.pytorch.models import BaseModel

    known = FeatureMap("criteo", "/tmp")
    numeric = {"source": "", "type": "numeric"}
    categories = {
        c: {"source": "", "type": "categorical", "vocab_size": size, "padding_idx": None}
        for c, size in zip(CATEGORIES, SIZES, strict=True)
    }
    known.features = OrderedDict({**{n: dict(numeric) for n in NUMBERS}, **categories})
    known.labels, known.default_emb_dim, known.num_fields = ["label"], DIM, 39

    class DeepFM(BaseModel):
        def __init__(self) -> None:
            super().__init__(known, "DeepFM", gpu=-1, verbose=0, model_root="/tmp", metrics=["AUC"])
            self.embedding_layer = FeatureEmbedding(known, DIM)
            self.fm = FactorizationMachine(known)
            self.mlp = MLP_Block(input_dim=39 * DIM, output_dim=1, hidden_units=list(HIDDEN), hidden_activations="ReLU")
            self.compile("adam", "binary_crossentropy", 1e-3)
            self.reset_parameters()
            self._max_gradient_norm = 10.0

        def forward(self, inputs: Any) -> Any:
            x = self.get_inputs(inputs)
            vectors = self.embedding_layer(x)
            return {"y_pred": self.output_activation(self.fm(x, vectors) + self.mlp(vectors.flatten(1)))}

    def batch_of(numbers: Any, ids: Any, labels: Any) -> dict[str, Any]:
        found = {n: numbers[:, i] for i, n in enumerate(NUMBERS)} | {c: ids[:, i] for i, c in enumerate(CATEGORIES)}
        return found | {"label": labels}

    model, clock = DeepFM(), Clock()
    data = [torch.from_numpy(part) for part in arrays(folder / "train.parquet", int(rows))]
    model.train()
    for batch in torch.split(torch.randperm(len(data[2])), BATCH)[:-1]:
        model.train_step(batch_of(*(part[batch] for part in data)))
        clock.tick()
    ended = time.monotonic(), time.process_time()
    model.eval()
    held = [torch.from_numpy(part) for part in arrays(folder / "valid.parquet")]
    with torch.no_grad():
        parts = zip(*(part.split(8192) for part in held), strict=True)
        scores = torch.cat([model(batch_of(*part))["y_pred"] for part in parts])
    return clock.row(auc_of(held[2], scores), int(rows), ended)


def deepctr(folder: Path, rows: str) -> Row:
    """Its DeepFM by its own fit, with its defaults; what two passes cost more than one is the price of the steps."""
    import torch
    from deepctr_torch.inputs import DenseFeat, SparseFeat
    from deepctr_torch.models import DeepFM

    columns = [SparseFeat(c, size, DIM) for c, size in zip(CATEGORIES, SIZES, strict=True)] + [
        DenseFeat(n, 1) for n in NUMBERS
    ]
    torch.manual_seed(7)
    model = DeepFM(columns, columns, dnn_hidden_units=HIDDEN, l2_reg_linear=0, l2_reg_embedding=0, device="cpu")
    model.compile(torch.optim.Adam(model.parameters(), 1e-3), "binary_crossentropy")

    def given(path: Path, count: int | None) -> tuple[dict[str, Any], Any]:
        numbers, ids, labels = arrays(path, count)
        x = {c: ids[:, i] for i, c in enumerate(CATEGORIES)} | {n: numbers[:, i] for i, n in enumerate(NUMBERS)}
        return x, labels

    x, labels = given(folder / "train.parquet", int(rows))
    began = time.monotonic(), time.process_time()
    model.fit(x, labels, batch_size=BATCH, epochs=1, verbose=0)
    wall, cpu = time.monotonic() - began[0], time.process_time() - began[1]
    held, truth = given(folder / "valid.parquet", None)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    auc = auc_of(truth, model.predict(held, 8192))
    return {"rate": int(rows) / wall, "cpu": 1e6 * cpu / int(rows), "auc": auc, "rows": int(rows), "memory": memory}


def parts(folder: Path, name: str) -> Row:
    """CPU seconds per million examples of what no step can do without: GEMMs, lookup with update, reading."""
    import numpy as np
    import torch

    from tidegate_components.models.fitting import fit_inputs
    from tidegate_components.models.tables import jagged
    from tidegate_components.training.batches import Part, batches
    from tidegate_components.training.learner import alone
    from tidegate_components.training.rows import ParquetRows

    said = configured(name)
    inputs = fit_inputs(said, [folder / "valid.parquet"])
    learner = alone(inputs, said, None)
    source = ParquetRows([folder / "valid.parquet"], inputs)
    blocks = list(batches(source, BATCH, (1, 0), Part()))[:-1]
    count = len(blocks) * BATCH / 1e6
    values = torch.randn(BATCH, 26 * DIM + 13, requires_grad=True)

    def reading() -> None:
        for _ in batches(source, BATCH, (1, 0), Part()):
            pass

    def multiplying() -> None:
        for _ in blocks:
            _gemms(learner.ranker.net, values).sum().backward()

    def looking_up() -> None:
        for block in blocks:
            found = learner.model.tables(jagged(learner.slots, learner.ranker.lookup(torch.from_numpy(block.ids))))
            found.values().backward(gradient)

    width = learner.model.tables(jagged(learner.slots, torch.zeros(26, BATCH, dtype=torch.int64))).values().shape[1]
    gradient = torch.from_numpy(np.random.default_rng(1).normal(0, 1e-4, (BATCH, width)).astype(np.float32))
    return {
        part: _cpu(work) / count
        for part, work in {"GEMM": multiplying, "tables": looking_up, "reading": reading}.items()
    }


def _gemms(net: Any, values: Any) -> Any:
    """The matrix products of a network, and nothing between them."""
    out = net.deep(values)
    for layer in getattr(net, "cross", []):
        out = out.sum() + layer(values).sum()
    return out


def _cpu(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


CONTENDERS: dict[str, Callable[..., Row]] = {
    "tidegate": tidegate, "ranks": ranks, "plain": plain, "fuxictr": fuxictr, "deepctr": deepctr, "parts": parts,
}  # fmt: skip

if __name__ == "__main__":
    main()
