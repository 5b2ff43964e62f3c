"""The package's own rules and losses on the pairs of tabular worlds, where an answer is one token of a few.

What a language model says of a whole vocabulary along an answer, a tabular policy says of the answers to its prompt:
the log-probabilities of both answers, whose lengths are 1, are there, and so are entropies and perturbed policies.
There are no prompt tokens, no hidden states and no columns.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.need import Need
from betahead.beta.rule import BetaRule, MarginOf
from betahead.losses.objective import Objective
from betahead.losses.reward_shift import RewardShift
from betahead.types import AnswerSums, PairLogps, PairReading, PromptFeatures, ReferenceScores, Shaping
from betahead.worlds.tabular import TabularWorld
from betahead.worlds.tabular_learning import PerPrompt, PerRun
from betahead.worlds.tabular_pairs import TabularPairs
from betahead.worlds.tabular_policies import Contrasts, Policies, Weighed
from betahead.worlds.tabular_runs import Runs

READABLE = frozenset({Need.PAIR, Need.COLLISION, Need.ENTROPY, Need.PERTURBED})
"""What a rule can ask for here."""

_MARGINS: dict[MarginOf, Literal["loss", "reference_means", "policy_means"]] = {
    "reference": "loss",
    "reference_means": "reference_means",
    "policy": "policy_means",
}

Flat = Float[Tensor, " flat"]
"""The pairs of all runs, one run after the other."""


@dataclass(frozen=True, kw_only=True)
class RegisteredRule:
    """A rule and an objective as language models are trained with them; every run has a rule of its own.

    Args:
        rule: makes that of a run, from its β and its seed.
        objective: what the policies descend; its margin is made that of the rule.
    """

    rule: Callable[[float, int], BetaRule]
    objective: Objective

    def configs(self, chosen: slice) -> "RegisteredRule":
        """Itself: β comes with the runs."""
        return self

    def divided(self, world: TabularWorld, pairs: TabularPairs) -> tuple[TabularPairs, None]:
        """All pairs are trained on."""
        return pairs, None


class RegisteredCourse:
    """The rules of a stack of runs while they are trained; the counterpart of `tabular_course.Course`."""

    def __init__(self, world: TabularWorld, runs: Runs, of: RegisteredRule) -> None:
        self.world = world
        self.shape = (len(world.seeds), runs.learning_rate.shape[0])
        level = runs.log_beta.expand(*self.shape, 1)
        self.rules = [
            of.rule(math.exp(float(level[line, config])), seed).double()
            for line, seed in enumerate(world.seeds)
            for config in range(self.shape[1])
        ]
        one = self.rules[0]
        self.needs, self.every = one.needs, None if one.kl_sampling is None else one.kl_sampling.every
        assert self.needs <= READABLE and not one.columns, f"{one.kind} reads what a tabular world does not have"
        self.objective = replace(of.objective, margin=_MARGINS[one.margin_of])
        self.shifts = [RewardShift().double() for _ in self.rules] if self.objective.has_shift else None
        self.log_beta, self.taken = level, 0
        if Need.ENTROPY in self.needs:
            entropy = _entropy(world.ref_logps[:, world.splits["train"]])
            for number, rule in enumerate(self.rules):
                rule.calibrate_entropy(entropy[number // self.shape[1]])

    @property
    def acting(self) -> PerPrompt:
        """log β, the mean over the pairs of the last step: prompts have none of their own."""
        return self.log_beta.expand(*self.shape, self.world.settings.train_prompts)

    @property
    def seen(self) -> PerPrompt:
        """The same; nothing is drawn for it."""
        return self.acting

    @property
    def reads_kl(self) -> bool:
        """Whether the rules sample the KL after the last step, so that `read` is to be called before the next one."""
        return self.every is not None and self.taken > 0 and self.taken % self.every == 0

    def read(self, kl: PerRun) -> None:
        """Tell the rules the KL (nats per answer) of the policies; it is exact where a language model's is sampled."""
        for rule, nats in zip(self.rules, kl.flatten().tolist(), strict=True):
            rule.kl_measured(nats)

    def descend(self, policies: Policies, batch: Weighed, share: float) -> None:
        """A step of the policies on these pairs, learning rates times `share`, and what the rules keep of it."""
        logits = policies.moved_logits(batch.pairs.prompt).requires_grad_()
        policy, reference = self._scores(logits, batch.pairs)
        chosen, rejected = self.objective.sides(policy, reference)
        margin = (chosen - rejected).view(len(self.rules), -1)
        features = self._features(policy, reference, margin.shape[1])
        shapings = [rule(one, h) for rule, one, h in zip(self.rules, features, margin, strict=True)]
        losses = self._losses(policy, reference, shapings)
        (by_logits,) = torch.autograd.grad((batch.weight * losses.view(batch.weight.shape)).sum(), logits)
        policies.step(policies.gradient_by_logits(by_logits, batch.pairs.prompt), share)
        for stateful in (*self.rules, *(self.shifts or [])):
            stateful.step_taken(_alone)
        self.log_beta = torch.stack([one.beta.detach().log().mean() for one in shapings]).view(*self.shape, 1)
        self.taken += 1

    def _scores(
        self, logits: Float[Tensor, "seeds configs pairs answers"], pairs: Contrasts
    ) -> tuple[PairLogps, ReferenceScores]:
        """What policies and reference say of the pairs, flat, with what the rules ask for."""
        lines, answers = torch.arange(self.shape[0])[:, None], logits.shape[-1]
        ref = self.world.ref_logps[lines, pairs.prompt][:, None].expand(logits.shape)
        logps = torch.log_softmax(ref + logits, dim=-1)
        won, lost = ((of % answers)[:, None, :, None].expand(*logits.shape[:3], 1) for of in (pairs.won, pairs.lost))

        def of(scores: Tensor) -> tuple[Flat, Flat]:
            return scores.gather(-1, won).flatten(), scores.gather(-1, lost).flatten()

        def moved(size: float) -> Tensor:
            # By what was added to the reference: where that is 0, both ways give the same number to the last bit.
            still = logps.detach()
            return torch.cat(of(torch.log_softmax(still + size * logits.detach(), dim=-1) - still))

        sums = AnswerSums()
        if Need.COLLISION in self.needs:
            sums = replace(sums, collision=(2 * logps.detach()).logsumexp(-1).flatten().repeat(2))
        if Need.PERTURBED in self.needs:
            size = self.rules[0].perturbation
            sums = replace(sums, looser=moved(size), tighter=moved(-size))
        chosen, rejected = of(logps)
        ones = torch.ones(len(chosen), dtype=torch.long)
        policy = PairLogps(chosen=chosen, rejected=rejected, chosen_tokens=ones, rejected_tokens=ones, sums=sums)
        first, second = of(ref)
        entropy = _entropy(ref).flatten() if Need.ENTROPY in self.needs else None
        return policy, ReferenceScores(chosen_logps=first, rejected_logps=second, entropy=entropy)

    def _features(self, policy: PairLogps, reference: ReferenceScores, pairs: int) -> list[PromptFeatures]:
        """What each run's rule reads."""
        if not self.needs:
            return [PromptFeatures(pairs=pairs)] * len(self.rules)
        whole = vars(PairReading.of(policy, reference))
        parts = {name: value.view(-1, pairs) for name, value in whole.items() if isinstance(value, Tensor)}
        return [
            PromptFeatures(pairs=pairs, pair=PairReading(**{name: value[run] for name, value in parts.items()}))
            for run in range(len(self.rules))
        ]

    def _losses(self, policy: PairLogps, reference: ReferenceScores, shapings: list[Shaping]) -> Flat:
        """Those of all runs at once, unless pairs of one run act on one another."""
        if not self.objective.on_batch and self.shifts is None:
            parts = {name: torch.cat([getattr(one, name) for one in shapings]) for name in vars(shapings[0])}
            return self.objective.losses(policy, reference, Shaping(**parts))
        pairs = len(shapings[0].beta)
        found: list[Tensor] = []
        for run, shaping in enumerate(shapings):
            ours, theirs = _of_run(policy, reference, slice(run * pairs, (run + 1) * pairs))
            shift = None
            if self.shifts is not None:
                chosen, rejected = self.objective.log_ratios(ours, theirs)
                shift = self.shifts[run].mean.to(chosen.dtype)
                self.shifts[run].see(shaping.beta * chosen, shaping.beta * rejected)
            found.append(self.objective.losses(ours, theirs, shaping, shift=shift))
        return torch.cat(found)


def _alone(of: Tensor) -> Tensor:
    return of


def _of_run(policy: PairLogps, reference: ReferenceScores, here: slice) -> tuple[PairLogps, ReferenceScores]:
    names = ("chosen", "rejected", "chosen_tokens", "rejected_tokens")
    ours = replace(policy, sums=AnswerSums(), **{name: getattr(policy, name)[here] for name in names})
    theirs = {name: getattr(reference, name)[here] for name in ("chosen_logps", "rejected_logps")}
    return ours, ReferenceScores(**theirs)


def _entropy(logps: Float[Tensor, "*any answers"]) -> Float[Tensor, "*any"]:
    """Of the answers to a prompt, as a share of the largest that there could be."""
    return -(logps.exp() * logps).sum(-1) / math.log(logps.shape[-1])
