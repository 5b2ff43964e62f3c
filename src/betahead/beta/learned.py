"""The rule this package exists for: β computed by a BetaHead and learned with the policy."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.card import MethodCard
from betahead.beta.head import BetaHead, HeadOutput, head_needs
from betahead.beta.head_settings import Exponent, Form
from betahead.beta.learned_settings import LearnedSettings, Learning, PriorOn, filled_in, resolved
from betahead.beta.nets import NetKind
from betahead.beta.perspective import REGULARISERS, Regulariser
from betahead.beta.rule import BetaRule, Need, Reads
from betahead.errors import ConfigError
from betahead.types import PromptFeatures, Shaping


class LearnedBeta(BetaRule):
    """β(x) from a `BetaHead`, learned on the same pairs as the policy.

    `joint`: head and policy descend −log σ(β·h) + λ·(mean log β/β₀)². The loss cannot identify the level of β, which
    the prior and the bounds hold. `perspective`: weight τ = β₀/β (attached) and penalty R(τ); β then sets when a pair
    stops pushing, not how hard it starts; with label smoothing ε the p of its optimum is p(1 − ε) + (1 − p)ε. `none`:
    the head is frozen, and β is the rule w·(log PPL)^p.

    A setting left at None takes the default of the form and the kind of learning; one that would be ignored is refused.

    Args:
        net: `linear`, `mlp` or `transformer`.
        form: `banded` (the published formula) or `direct`.
        initial_beta: β₀.
        max_correction: ε in [0, 1), banded; default 0.5.
        ppl_exponent: p, banded: a number (default 1) or "learned" (starts at 0).
        ppl_from: whose perplexity of the prompt: `policy` or `reference`.
        ppl_tokens: `all` prompt tokens that have a predecessor, or those of the `content` without the template.
        bounds: (low, high); default (β₀/10, 10·β₀), for `perspective` (1e-3, 30).
        couple: let the gradient of β flow through perplexity and hidden state into the policy.
        learning: `joint`, `perspective` or `none`.
        regulariser: `quadratic` (default) or `linear`, perspective.
        rho: ρ, perspective; default 0.1. Below log 2 for `linear`.
        prior_weight: λ ≥ 0, joint; default 0.1.
        prior_on: the prior acts on the `level`, the mean log β, as the pairs of the step before showed it to
            `step_taken` (default), or on `each` pair, joint.
        learning_rate: the head's own step size; default 1e-3.

    Raises:
        ConfigError: for a value out of range or a setting that the others leave without effect.

    Gradient:
        Into the head always (unless `none`); into the policy through the margin, and through the features only with
        `couple`. One scalar gives both their exact partial derivatives.

    Source:
        This package, docs/theory.md. Perspective: Hong et al. 2024, https://arxiv.org/abs/2406.02764, with their τ per
        pair amortised by the head.
    """

    kind: ClassVar[str] = "learned"
    reads: ClassVar[Reads] = "prompt"
    card: ClassVar[MethodCard] = MethodCard(
        title="Learned β",
        formula="β(x) = w · (log PPL(x))^p · (1 + ε·tanh NN(h(x))), or log β(x) = log β₀ + NN([h(x), log PPL(x)])",
        cost="the LM head on the prompt's tokens, without gradient; nothing with ppl_from: reference",
        source="this package, docs/theory.md; perspective: Hong et al. 2024, https://arxiv.org/abs/2406.02764",
        checked="code",
    )
    head: BetaHead
    level: Tensor

    def __init__(
        self,
        net: NetKind = "linear",
        *,
        form: Form = "banded",
        initial_beta: float = 0.1,
        max_correction: float | None = None,
        ppl_exponent: Exponent | None = None,
        ppl_from: Literal["policy", "reference"] = "policy",
        ppl_tokens: Literal["all", "content"] = "all",
        bounds: tuple[float, float] | None = None,
        couple: bool = False,
        learning: Learning = "joint",
        regulariser: Regulariser | None = None,
        rho: float | None = None,
        prior_weight: float | None = None,
        prior_on: PriorOn | None = None,
        learning_rate: float | None = None,
    ) -> None:
        super().__init__()
        self._given: dict[str, Any] = {
            name: value for name, value in locals().items() if name not in ("self", "__class__")
        }
        self.resolved: LearnedSettings = resolved(**self._given)
        self.couple = couple
        self.ppl_from = ppl_from
        self.ppl_tokens = ppl_tokens
        self.learning_rate = self.resolved.learning_rate
        self._seen: Tensor | None = None
        if self._pulls_the_level:
            self.register_buffer("level", torch.zeros(()))
        # F = τ·link(u/τ) + R(τ) has its closed form, and its interior optimum, for the logistic loss alone.
        self.links = frozenset({"sigmoid"}) if learning == "perspective" else None

    @property
    def needs(self) -> frozenset[Need]:
        """What the head reads."""
        s = self.resolved
        return head_needs(s.net, s.form, s.max_correction, s.ppl_exponent)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The bounds of the head."""
        return self.resolved.bounds

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments, with the defaults that apply filled in and None for what does not apply."""
        return filled_in(self._given, self.resolved)

    def build(self, hidden_size: int, *, seed: int) -> None:
        """Create the head for a policy of that width; the same seed gives the same head, whatever ran before.

        Raises:
            ConfigError: when it has been built: a head that another policy trained would be lost.
        """
        if hasattr(self, "head"):
            raise ConfigError(
                "`beta` must be a new rule for every policy, but this one is in use already; make another."
            )
        s = self.resolved
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = BetaHead(
                hidden_size,
                net=s.net,
                form=s.form,
                initial_beta=s.initial_beta,
                max_correction=s.max_correction,
                ppl_exponent=s.ppl_exponent,
                bounds=s.bounds,
            )
        if s.learning == "none":
            self.head.requires_grad_(False)

    def calibrate(self, log_ppl: Float[Tensor, " prompts"]) -> None:
        """Set g of the head."""
        self.head.calibrate(log_ppl)

    @property
    def _pulls_the_level(self) -> bool:
        s = self.resolved
        return s.learning == "joint" and s.prior_weight > 0.0 and s.prior_on == "level"

    def explain(self, features: PromptFeatures) -> HeadOutput:
        """β and what it is made of, with the features detached unless `couple`."""
        return self.head(features if self.couple else _detached(features))

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """β of every pair's prompt, with the weight and penalty of the kind of learning."""
        beta = self.explain(features).beta
        zeros = torch.zeros_like(beta)
        s = self.resolved
        if s.learning == "perspective":
            tau = s.initial_beta / beta
            return Shaping(beta=beta, target=zeros, weight=tau, penalty=REGULARISERS[s.regulariser](tau, s.rho))
        penalty = zeros
        if s.learning == "joint" and s.prior_weight > 0.0:
            log_ratio = (beta / s.initial_beta).log()
            penalty = s.prior_weight * (self._tangent(log_ratio) if self._pulls_the_level else log_ratio.square())
        return Shaping(beta=beta, target=zeros, weight=zeros + 1.0, penalty=penalty)

    def _tangent(self, log_ratio: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        """The tangent of (mean log ratio)² at the level of the last step, as a sum over pairs.

        A square of a mean is no sum over pairs: cut a batch and it changes. Its tangent 2·m·s − m² is one, with m the
        level that the last optimizer step saw. The mean over pairs differs from the square by the square of what the
        level moved in one step, and m is no function of these pairs, so that the gradient has no part in which pairs
        of a small batch pull one another together.
        """
        if self.training and torch.is_grad_enabled():
            one = torch.stack([log_ratio.detach().sum(), log_ratio.new_full((), len(log_ratio))])
            self._seen = one if self._seen is None else self._seen + one
        return 2.0 * self.level * log_ratio - self.level.square()

    @torch.no_grad()
    def step_taken(self, summed: Callable[[Tensor], Tensor]) -> None:
        """Take the mean log ratio of the step's pairs as the level that the prior pulls in the next step."""
        if self._seen is None:
            return
        total, pairs = summed(self._seen).unbind()
        self.level.copy_(total / pairs)
        self._seen = None

    def reshaped(self, shaping: Shaping, beta: Float[Tensor, " pairs"]) -> Shaping:
        """The shaping had β been this: with `perspective` the weight is β₀/β."""
        weight = self.resolved.initial_beta / beta if self.resolved.learning == "perspective" else shaping.weight
        return replace(shaping, beta=beta, weight=weight)

    def log_metrics(self) -> dict[str, Tensor]:
        """w of the published formula, and p when it is learned."""
        if self.head.form == "direct":
            return {}
        metrics = {"beta/w": self.head.weight.detach()}
        if self.head.ppl_exponent == "learned":
            metrics["beta/ppl_exponent"] = self.head.exponent.detach()
        return metrics


def _detached(features: PromptFeatures) -> PromptFeatures:
    return replace(
        features,
        log_ppl=None if features.log_ppl is None else features.log_ppl.detach(),
        last_hidden=None if features.last_hidden is None else features.last_hidden.detach(),
        hidden=None if features.hidden is None else features.hidden.detach(),
    )
