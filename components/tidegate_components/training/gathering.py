"""A trained model brought together on rank 0, as its serving twin."""

from __future__ import annotations

import torch

from tidegate_components.models.config import Architecture
from tidegate_components.models.inputs import Inputs
from tidegate_components.models.ranker import table_widths
from tidegate_components.models.scoring import Scorer
from tidegate_components.training.learner import Learner

__all__ = ["gather"]


@torch.no_grad()
def gather(learner: Learner, inputs: Inputs, said: Architecture) -> Scorer | None:
    """The twin on rank 0, None elsewhere. Every rank calls it."""
    twin = Scorer(inputs, said, learner.ranker.taste) if learner.part.rank == 0 else None
    for name, width in table_widths(inputs, said).items():
        mine = [shard.weights for shard in learner.shards if shard.table == name]
        here = torch.cat(mine) if mine else torch.zeros(0, width)
        whole = here if learner.replicated else learner.gathered(here)
        if twin:
            twin.tables[name].copy_(whole)
    if twin:
        twin.ranker.load_state_dict(learner.ranker.state_dict())
    return twin.eval() if twin else None
