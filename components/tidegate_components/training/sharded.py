"""The same learner over the ranks of torchrun: tables sharded by TorchRec, the rest replicated by DDP."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.types import ParameterConstraints
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward

from tidegate_components.models.config import Config
from tidegate_components.models.inputs import Inputs
from tidegate_components.models.tables import TrainedModel, check_memory, slot_tables, table_configs
from tidegate_components.models.taste import Taste
from tidegate_components.training.batches import Part
from tidegate_components.training.learner import SPARSE, Learner, dense_optimizer, shards_of_kernel, sparse_arguments
from tidegate_components.training.shards import initialize

__all__ = ["sharded"]

_ROW_WISE = 1 << 22
"""Tables of more rows are spread row by row; the planner places the others whole."""


def sharded(inputs: Inputs, config: Config, taste: Taste | None) -> Learner:
    """Joins the process group that torchrun's environment describes (gloo, or nccl where there are GPUs)."""
    device = _join()
    check_memory(inputs, config.model, dist.get_world_size() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    said = config.training.sparse
    tables = EmbeddingBagCollection(tables=table_configs(inputs, config.model), device=torch.device("meta"))
    apply_optimizer_in_backward(SPARSE[said.optimizer], tables.parameters(), sparse_arguments(config))
    torch.manual_seed(config.training.seed)
    model = TrainedModel(inputs, config.model, tables, taste)
    sharder: Any = _Sharder()
    plan = _planner(inputs, device).collective_plan(model, [sharder], dist.GroupMember.WORLD)
    spread = DistributedModelParallel(model, device=device, plan=plan, sharders=[sharder])
    lookups = [kernel for lookup in _sharded(spread)._lookups for kernel in lookup._emb_modules]
    shards = [s for kernel in lookups for s in shards_of_kernel(kernel._config.embedding_tables, kernel.emb_module)]
    initialize(shards, inputs, config.model, config.training.seed)
    ranker = spread.module.ranker
    return Learner(
        spread, ranker, dense_optimizer(ranker.parameters(), config), spread.fused_optimizer, shards,
        list(slot_tables(inputs)), Part(dist.get_rank(), dist.get_world_size()), _summed, _gathered, _wait,
    )  # fmt: skip


class _Sharder(EmbeddingBagCollectionSharder):  # type: ignore[misc]
    """TorchRec offers rows over ranks on GPUs only; gloo does it too."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        return [*dict.fromkeys([*super().sharding_types(compute_device_type), "row_wise"])]


def _join() -> torch.device:
    """The process group; ranks started anew must not read addresses that those before them left in the store."""
    on_gpu = torch.cuda.is_available()
    if not dist.is_initialized():
        store, rank, world = next(rendezvous("env://"))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        fresh = PrefixStore(f"attempt-{attempt}", store)
        dist.init_process_group("nccl" if on_gpu else "gloo", store=fresh, rank=rank, world_size=world)
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")


def _planner(inputs: Inputs, device: torch.device) -> EmbeddingShardingPlanner:
    kinds = {bag.name: "row_wise" if bag.size > _ROW_WISE else "table_wise" for bag in inputs.tables}
    return EmbeddingShardingPlanner(
        topology=Topology(world_size=dist.get_world_size(), compute_device=device.type),
        constraints={
            name: ParameterConstraints(sharding_types=[kind], compute_kernels=["fused"]) for name, kind in kinds.items()
        },
    )


def _sharded(spread: DistributedModelParallel) -> Any:
    return spread.module.tables


def _wait() -> None:
    dist.barrier()


def _summed(tensor: Tensor) -> Tensor:
    dist.all_reduce(tensor)
    return tensor


def _gathered(tensor: Tensor) -> Tensor:
    """The ranks' tensors [n, ...], one behind the other, on every rank."""
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(tensor)]))
    most = max(int(size) for size in sizes)
    padded = torch.cat([tensor, tensor.new_zeros(most - len(tensor), *tensor.shape[1:])])
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(size)] for part, size in zip(parts, sizes, strict=True)])
