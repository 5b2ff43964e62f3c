"""The policies of a stack of runs as parameters, and pairs as directions in them.

The margin of a pair is linear in the policy's parameters, h = (φ(x, y_w) − φ(x, y_l))·θ + private·(table[x, y_w] −
table[x, y_l]); the normaliser cancels. So a margin, and how fast it changes along a direction, are one function, and a
step costs one matrix product each way.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from betahead.worlds.tabular import TabularWorld
from betahead.worlds.tabular_descent import Descent, descent
from betahead.worlds.tabular_runs import Training


@dataclass(frozen=True, eq=False)
class Parameters:
    """θ and the train prompts' own logits of every policy, or a direction in them; prompts that share all own none."""

    shared: Float[Tensor, "seeds configs features"]
    table: Float[Tensor, "seeds configs own"]


@dataclass(frozen=True, eq=False)
class Contrasts:
    """Pairs as policies see them.

    Args:
        prompt: number of the train prompt.
        difference: φ(x, y_w) − φ(x, y_l).
        won: where the preferred answer's own logit lies in the table.
        lost: where the other one's lies.
    """

    prompt: Int[Tensor, "seeds pairs"]
    difference: Float[Tensor, "seeds pairs features"]
    won: Int[Tensor, "seeds pairs"]
    lost: Int[Tensor, "seeds pairs"]

    @classmethod
    def of(
        cls,
        world: TabularWorld,
        prompt: Int[Tensor, "seeds pairs"],
        chosen: Int[Tensor, "seeds pairs"],
        rejected: Int[Tensor, "seeds pairs"],
    ) -> "Contrasts":
        """The pairs of these prompts and answers."""
        lines = torch.arange(len(world.seeds))[:, None]
        answers = world.settings.answers
        return cls(
            prompt=prompt,
            difference=world.features[lines, prompt, chosen] - world.features[lines, prompt, rejected],
            won=prompt * answers + chosen,
            lost=prompt * answers + rejected,
        )


@dataclass(frozen=True, eq=False)
class Weighed:
    """Pairs, and how much each of them counts in every run."""

    pairs: Contrasts
    weight: Float[Tensor, "seeds configs pairs"]

    @property
    def where(self) -> Int[Tensor, "seeds configs pairs"]:
        """The prompt of each pair, in every run."""
        return self.pairs.prompt[:, None].expand(self.weight.shape)


class Policies:
    """Policies that start at the reference, and the optimizers that move them."""

    def __init__(self, world: TabularWorld, learning_rate: Float[Tensor, " configs"], training: Training) -> None:
        stack = (len(world.seeds), learning_rate.shape[0])
        own = world.settings.train_prompts * world.settings.answers if world.private > 0 else 0
        self.private = world.private
        self._features = world.features
        self.at = Parameters(
            shared=torch.zeros(*stack, world.features.shape[-1], dtype=torch.float64),
            table=torch.zeros(*stack, own, dtype=torch.float64),
        )
        rate = learning_rate[None, :, None]
        self._shared: Descent = descent(training, self.at.shared, rate)
        self._table: Descent = descent(training, self.at.table, rate)

    def margins(self, pairs: Contrasts, along: Parameters | None = None) -> Float[Tensor, "seeds configs pairs"]:
        """h of every pair (nats), or how fast it changes along a direction."""
        at = along or self.at
        margin = at.shared @ pairs.difference.transpose(1, 2)
        if self.private > 0:
            won, lost = self._own(pairs)
            margin = margin + self.private * (at.table.gather(2, won) - at.table.gather(2, lost))
        return margin

    def gradient(self, push: Float[Tensor, "seeds configs pairs"], pairs: Contrasts) -> Parameters:
        """The gradient of a loss whose derivative by the margins is `push`."""
        table = torch.zeros_like(self.at.table)
        if self.private > 0:
            won, lost = self._own(pairs)
            table.scatter_add_(2, won, self.private * push).scatter_add_(2, lost, -self.private * push)
        return Parameters(shared=push @ pairs.difference, table=table)

    def moved_logits(self, prompt: Int[Tensor, "seeds pairs"]) -> Float[Tensor, "seeds configs pairs answers"]:
        """What the policies add to log π_ref of every answer to the prompts of pairs, up to their normalisers."""
        features = self._features_at(prompt)
        logits = (self.at.shared @ features.flatten(1, 2).transpose(1, 2)).unflatten(-1, features.shape[1:3])
        if self.private == 0:
            return logits
        return logits + self.private * self.at.table.gather(2, self._places(prompt)).view(logits.shape)

    def gradient_by_logits(
        self, by_logits: Float[Tensor, "seeds configs pairs answers"], prompt: Int[Tensor, "seeds pairs"]
    ) -> Parameters:
        """The gradient of a loss whose derivative by `moved_logits` is this."""
        flat = by_logits.flatten(2)
        table = torch.zeros_like(self.at.table)
        if self.private > 0:
            table.scatter_add_(2, self._places(prompt), self.private * flat)
        return Parameters(shared=flat @ self._features_at(prompt).flatten(1, 2), table=table)

    def step(self, gradient: Parameters, share: float) -> None:
        """Descend once, with the learning rate times `share`."""
        self._shared.step(gradient.shared, share)
        self._table.step(gradient.table, share)

    def moved(self, gradient: Parameters, share: float) -> Parameters:
        """P·gradient: how far the last step moves per unit of its gradient, in the direction of another one."""
        return Parameters(
            shared=self._shared.moved(gradient.shared, share), table=self._table.moved(gradient.table, share)
        )

    def _own(self, pairs: Contrasts) -> tuple[Int[Tensor, "seeds configs pairs"], Int[Tensor, "seeds configs pairs"]]:
        configs = self.at.table.shape[1]
        won, lost = (where[:, None].expand(-1, configs, -1) for where in (pairs.won, pairs.lost))
        return won, lost

    def _features_at(self, prompt: Int[Tensor, "seeds pairs"]) -> Float[Tensor, "seeds pairs answers features"]:
        return self._features[torch.arange(prompt.shape[0])[:, None], prompt]

    def _places(self, prompt: Int[Tensor, "seeds pairs"]) -> Int[Tensor, "seeds configs places"]:
        """Where the own logits of all answers to these prompts lie in the table."""
        answers = self._features.shape[2]
        places = (prompt[..., None] * answers + torch.arange(answers)).flatten(1)
        return places[:, None].expand(-1, self.at.table.shape[1], -1)
