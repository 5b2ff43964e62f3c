"""β of a stack of runs while they are trained: where it is, what it does to the policies, and how it is learned."""

from copy import deepcopy
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.losses.preference import preference_loss
from betahead.worlds.tabular import TabularWorld
from betahead.worlds.tabular_descent import Descent, descent
from betahead.worlds.tabular_heldout import one_step_ahead
from betahead.worlds.tabular_learning import BetaLearning, PerPair, PerPrompt, PerRun, groups_of
from betahead.worlds.tabular_policies import Policies, Weighed
from betahead.worlds.tabular_runs import Runs, Training


class Course:
    """β from where it starts to where training leaves it.

    Args:
        held_out: pairs for which what is learned of β moves, or None where it descends the loss of the step itself.
    """

    def __init__(
        self, world: TabularWorld, runs: Runs, learning: BetaLearning, training: Training, held_out: Weighed | None
    ) -> None:
        shape = (len(world.seeds), runs.learning_rate.shape[0], world.settings.train_prompts)
        self.level = runs.log_beta.expand(shape)
        self.lean, self.held_out = runs.lean, held_out
        self.of = learning.begin(world, shape[1])
        self.mover: Descent | None = None
        if self.of.per is not None:
            self.group = groups_of(world, self.of.per)
            self.offset = torch.zeros(*shape[:2], int(self.group.max()) + 1, dtype=torch.float64)
            rate = self.of.learning_rate
            rate = rate[None, :, None] if isinstance(rate, Tensor) else rate
            self.mover = descent(replace(training, weight_decay=0.0), self.offset, rate)

    @property
    def acting(self) -> Float[Tensor, "seeds configs prompts"]:
        """log β of every prompt as the policy sees it."""
        return self.of.acting(self._log_beta(None if self.mover is None else self.offset))

    @property
    def seen(self) -> Float[Tensor, "seeds configs prompts"]:
        """The same for somebody who only looks: what the course draws from is left as it was."""
        return deepcopy(self.of).acting(self._log_beta(None if self.mover is None else self.offset))

    @property
    def reads_kl(self) -> bool:
        """Whether `read` is to be called before every step."""
        return self.of.reads_kl

    def read(self, kl: PerRun) -> None:
        """Set the level of the next step by the KL (nats per answer) of the policies that begin it."""
        self.level = self.of.next_level(self.level, kl)

    def descend(self, policies: Policies, batch: Weighed, share: float) -> None:
        """A step of the policies on these pairs, and of what is learned of β; learning rates times `share`."""
        margin = policies.margins(batch.pairs)
        policies.step(policies.gradient(self.push(margin, batch, share), batch.pairs), share)
        self.look_back(margin, batch, policies, share)

    def push(self, margin: PerPair, batch: Weighed, share: float) -> PerPair:
        """The derivative of the loss by the margins; what descends the loss of the step itself steps along the way."""
        margin, still = margin.detach().requires_grad_(), margin.detach()
        learns = self.mover is not None and self.held_out is None
        offset = None if self.mover is None else self.offset.detach().requires_grad_(learns)
        log_beta = self._log_beta(offset)
        acting = self.of.acting(log_beta)
        total = (batch.weight * self._losses(margin, still, acting, batch.where)).sum()
        if self.mover is None or offset is None or not learns:
            return torch.autograd.grad(total, margin)[0]
        if acting is not log_beta:
            # The rule that is controlled for learns from its own β, and the policy does not feel it.
            total = total + (batch.weight * self._losses(still, still, log_beta, batch.where)).sum()
        by_margin, by_offset = torch.autograd.grad(total, (margin, offset))
        self.mover.step(by_offset, share)
        return by_margin

    def look_back(self, margin: PerPair, batch: Weighed, policies: Policies, share: float) -> None:
        """Move what is learned from held-out pairs, by what the step that the policies took has done to these."""
        if self.mover is None or self.held_out is None:
            return
        offset = self.offset.detach().requires_grad_()
        log_beta = self._log_beta(offset)
        by_log_beta = one_step_ahead(
            policies, batch, self.held_out, margin=margin, log_beta=log_beta.detach(), level=self.level, share=share
        )
        (by_offset,) = torch.autograd.grad(log_beta.gather(2, batch.where), offset, by_log_beta)
        self.mover.step(by_offset, share)

    def _log_beta(self, offset: Tensor | None) -> PerPrompt:
        start = self.level if self.lean is None else self.level + self.lean
        moved = start if offset is None else start + offset[..., self.group]
        return self.of.held(moved, self.level)

    def _losses(self, margin: PerPair, still: PerPair, log_beta: PerPrompt, where: Tensor) -> PerPair:
        shaping = self.of.shaping(log_beta.gather(2, where), self.level.gather(2, where), still)
        losses = preference_loss(margin.flatten(), shaping, kind=self.of.loss, label_smoothing=self.of.label_smoothing)
        return losses.view(margin.shape)
