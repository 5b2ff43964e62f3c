"""Losses that act on a whole pass, on several ranks: their value and gradient are those of one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from betahead.losses import anchor, on_batch
from betahead.losses.on_ranks import of_all_ranks

LOSSES: dict[str, Callable[..., Tensor]] = {
    "dr_dpo": lambda a, b, beta: on_batch.dr_dpo(beta * (a - b), beta, dr_dpo_beta=0.7),
    "aot": on_batch.aot,
    "aot_unpaired": on_batch.aot_unpaired,
    "sft": lambda a, b, beta: anchor.sft(a + 0.0 * b - 9.0, (1 + 5 * beta).long()),
}
RANKS, PAIRS = 3, 4


@pytest.mark.parametrize("kind", LOSSES)
def test_three_ranks_have_the_loss_and_the_gradient_of_one(kind: str) -> None:
    rng = torch.Generator().manual_seed(0)
    given = [torch.randn(RANKS * PAIRS, generator=rng, dtype=torch.float64) for _ in range(3)]
    given[2] = given[2].abs() + 0.1
    alone = [value.clone().requires_grad_() for value in given]
    wanted = LOSSES[kind](*alone).mean()
    wanted.backward()
    for rank in range(RANKS):
        mine = slice(rank * PAIRS, (rank + 1) * PAIRS)
        own = [value[mine].clone().requires_grad_() for value in given]
        places = {id(of): place for place, of in enumerate(own)}

        def everyone(of: Tensor, rank: int = rank, places: Any = places) -> Tensor:
            parts = list(given[places[id(of)]].chunk(RANKS))
            parts[rank] = of
            return torch.cat(parts)

        found = of_all_ranks(LOSSES[kind], *own, everyone=everyone)
        assert found.shape == (PAIRS,)
        torch.testing.assert_close(found, wanted.detach().expand(PAIRS), rtol=1e-12, atol=0.0)
        # What the trainer descends: the sum over the rank's pairs, by the pairs of all ranks; ranks are added up.
        (found.sum() / (RANKS * PAIRS)).backward()
        for one, whole in zip(own, alone, strict=True):
            if whole.grad is not None:
                torch.testing.assert_close(one.grad, whole.grad[mine], rtol=1e-10, atol=1e-14)
