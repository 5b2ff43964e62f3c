"""A controller of one β: the user says how far the policy may move, and β follows by dual ascent."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.budget_settings import KEPT, LEVEL_RATE, KLFrom, sampling_of, settings_of
from betahead.beta.card import MethodCard
from betahead.beta.dual_ascent import DualAscent
from betahead.beta.head_settings import number, one_of, within
from betahead.beta.plain_shaping import plain_shaping
from betahead.beta.rule import BetaRule, Need, Reads
from betahead.beta.step_mean import StepMean
from betahead.types import PromptFeatures, Shaping


class KLController(BetaRule):
    """One β for all pairs, whose logarithm follows the excess of a KL estimate over its target after every step.

    Args:
        initial_beta: β₀ > 0, within the bounds.
        target_kl: nats per answer, > 0.
        kl_from: `samples`: KL(π‖π_ref) of answers that the policy samples to training prompts, which costs generation.
            `answers`: the mean of −log π/π_ref over both answers of the pairs, which costs nothing and is KL(π_ref‖π)
            where the reference wrote the answers, and no divergence at all where something else did.
        kl_every, kl_prompts, kl_tokens: see `sampling_of`.
        rate: change of log β per step at twice the target, > 0.
        push: with `even` the loss is weighted by β₀/β, so that β only sets where pairs stop; with `beta` an optimizer
            like Adam slows down as β falls.
        min_beta, max_beta: bounds of β, > 0.

    Raises:
        ConfigError: for a value out of range, or one that does not apply.

    Gradient:
        Into the margin alone; β and weight are constants.

    Source:
        Ziegler et al. 2019, section 2.2, https://arxiv.org/abs/1909.08593; the ascent: `DualAscent`.
    """

    kind: ClassVar[str] = "kl_controller"
    reads: ClassVar[Reads] = "nothing"
    card: ClassVar[MethodCard] = MethodCard(
        title="Controller on a KL",
        formula=(
            "e = clip(KL/target − 1, −1, 1), KL a moving average of estimates\n"
            "log β ← clip(log β + rate · (steps · e + 40 · (e − e before)), log min_beta, log max_beta)\n"
            "weight_i = β₀/β (push: even) or 1 (beta)"
        ),
        cost="kl_from: samples generates kl_prompts answers every kl_every steps; answers costs nothing",
        source="Ziegler et al. 2019, https://arxiv.org/abs/1909.08593",
        deviates="looks ahead (the change of e), for DPO instead of rewards, and does not change how hard pairs push",
    )
    log_ratio: Tensor
    kl: Tensor

    def __init__(
        self,
        initial_beta: float = 0.1,
        target_kl: float = 10.0,
        kl_from: KLFrom = "samples",
        kl_every: int | None = None,
        kl_prompts: int | None = None,
        kl_tokens: int | None = None,
        rate: float = LEVEL_RATE,
        push: Literal["even", "beta"] = "even",
        min_beta: float = 1e-3,
        max_beta: float = 30.0,
    ) -> None:
        super().__init__()
        self.initial_beta = number("initial_beta", initial_beta, "a positive number", 0, inside=False)
        self.target_kl = number("target_kl", target_kl, "a positive number", 0, inside=False)
        sampled = {"kl_every": kl_every, "kl_prompts": kl_prompts, "kl_tokens": kl_tokens}
        self.kl_sampling = sampling_of(kl_from, **sampled, section="")
        self.rate = number("rate", rate, "a positive number", 0, inside=False)
        one_of("push", push, ("even", "beta"))
        self.push: Literal["even", "beta"] = push
        self.evens_push = push == "even"
        self.min_beta, self.max_beta = min_beta, max_beta
        within("initial_beta", self.initial_beta, min_beta=min_beta, max_beta=max_beta)
        self.ascent = DualAscent(target=self.target_kl, rate=self.rate)
        self._answers = StepMean()
        for name in ("log_ratio", "kl"):
            self.register_buffer(name, torch.zeros(()))

    @property
    def needs(self) -> frozenset[Need]:
        """The pair, where its answers say how far the policy has moved."""
        return frozenset({Need.PAIR} if self.kl_sampling is None else set())

    @property
    def bounds(self) -> tuple[float, float]:
        """Where the controller ends."""
        return self.min_beta, self.max_beta

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments, with the defaults that apply."""
        own = ("initial_beta", "target_kl", "rate", "push", "min_beta", "max_beta")
        return {name: getattr(self, name) for name in own} | settings_of(self.kl_sampling)

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """The same β for every pair; in training an estimate from answers keeps what it is made of."""
        if self.kl_sampling is None and self.training and torch.is_grad_enabled():
            pair = features.pair
            assert pair is not None, "the rule reads the pair, but was given none"
            moved = pair.chosen_logps + pair.rejected_logps
            self._answers.add(-0.5 * (moved - pair.reference_chosen_logps - pair.reference_rejected_logps))
        beta = self.initial_beta * self.log_ratio.exp()
        weight = (-self.log_ratio).exp() if self.push == "even" else 1.0
        return plain_shaping(margin, beta=beta.to(margin.dtype), weight=weight)

    @torch.no_grad()
    def step_taken(self, summed: Callable[[Tensor], Tensor]) -> None:
        """Move β by the answers of the step, of all ranks and passes."""
        if (kl := self._answers.taken(summed)) is not None:
            self._ascend(kl, steps=1)

    @torch.no_grad()
    def kl_measured(self, nats: float) -> None:
        """Move β by an estimate from samples."""
        assert self.kl_sampling is not None
        self._ascend(self.kl.new_tensor(nats), steps=self.kl_sampling.every)

    def _ascend(self, kl: Tensor, *, steps: int) -> None:
        low, high = (math.log(bound / self.initial_beta) for bound in self.bounds)
        average = self.kl.lerp(kl.to(self.kl), 1.0 - KEPT["answers" if self.kl_sampling is None else "samples"])
        self.log_ratio.copy_(self.ascent.moved(self.log_ratio, average, self.kl, limits=(low, high), steps=steps))
        self.kl.copy_(average)

    def reshaped(self, shaping: Shaping, beta: Float[Tensor, " pairs"]) -> Shaping:
        """The shaping had β been this."""
        return replace(shaping, beta=beta, weight=self.initial_beta / beta if self.push == "even" else shaping.weight)

    def log_metrics(self) -> dict[str, Tensor]:
        """The moving average of the KL."""
        return {"kl/estimate": self.kl}
