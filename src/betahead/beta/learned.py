"""The rule this package exists for: β computed by a BetaHead and learned with the policy."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.card import MethodCard
from betahead.beta.head import BetaHead
from betahead.beta.head_output import HeadOutput
from betahead.beta.head_settings import Exponent, Form, head_needs
from betahead.beta.joint import PriorOn
from betahead.beta.learned_settings import resolved
from betahead.beta.learning_kinds import Learning, learning_named
from betahead.beta.moded import ModedBeta
from betahead.beta.nets import NetKind
from betahead.beta.perspective import Regulariser
from betahead.beta.rule import Need, Reads
from betahead.errors import ConfigError
from betahead.types import PromptFeatures, Shaping


class LearnedBeta(ModedBeta):
    """β(x) from a `BetaHead`, learned with the policy in the way that `learning` names.

    A setting left at None takes the default of the form and the kind of learning; one that would be ignored is refused.

    Args:
        net: `linear`, `mlp` or `transformer`.
        form: `banded` (the published formula) or `direct`.
        initial_beta: β₀.
        max_correction: ε in [0, 1), banded; default 0.5.
        ppl_exponent: p, banded: a number (default 1) or "learned" (starts at 0).
        ppl_from: whose perplexity of the prompt: `policy` or `reference`.
        ppl_tokens: `all` prompt tokens that have a predecessor, or those of the `content` without the template.
        bounds: (low, high); default (β₀/10, 10·β₀) where the level comes from β₀, else (1e-3, 30).
        couple: let the gradient of β flow through perplexity and hidden state into the policy.
        learning: `joint`, `perspective`, `heldout`, `none`, or a mapping of `kind` and settings, such as
            `{"kind": "budget", "target_kl": 5.0}`. `learning_kinds` has the kinds, each in a file with its settings.
        regulariser, rho, prior_weight, prior_on: those of `PerspectiveLearning` and of `JointLearning`.
        learning_rate: the head's own step size; default 1e-3.

    Raises:
        ConfigError: for a value out of range or a setting that the others leave without effect.

    Gradient:
        Into the head always (unless `none`); into the policy through the margin, and through the features only with
        `couple`. One scalar gives both their exact partial derivatives.

    Source:
        This package, docs/theory.md.
    """

    kind: ClassVar[str] = "learned"
    reads: ClassVar[Reads] = "prompt"
    card: ClassVar[MethodCard] = MethodCard(
        title="Learned β",
        formula="β(x) = w · (log PPL(x))^p · (1 + ε·tanh NN(h(x))), or log β(x) = log β₀ + NN([h(x), log PPL(x)])",
        cost="the LM head on the prompt's tokens, without gradient; nothing with ppl_from: reference",
        source="this package, docs/theory.md; perspective: Hong et al. 2024, https://arxiv.org/abs/2406.02764",
        deviates="w = β₀·e^ω·g^(−p) is not free as published, so that a new head has level β₀ for every p",
        checked="",
    )
    head: BetaHead

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
        learning: Learning | Mapping[str, Any] = "joint",
        regulariser: Regulariser | None = None,
        rho: float | None = None,
        prior_weight: float | None = None,
        prior_on: PriorOn | None = None,
        learning_rate: float | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        self.given = given
        of_learning = {name: given[name] for name in ("regulariser", "rho", "prior_weight", "prior_on")}
        self.mode = mode = learning_named(learning, **of_learning)
        self.resolved = resolved(mode, **{n: v for n, v in given.items() if n not in (*of_learning, "learning")})
        self.couple, self.ppl_from, self.ppl_tokens = couple, ppl_from, ppl_tokens
        self.learning_rate, self.links, self.evens_push = self.resolved.learning_rate, mode.links, mode.evens_push
        self.kl_sampling, self.held_out = self.mode.kl_sampling, self.mode.held_out

    @property
    def needs(self) -> frozenset[Need]:
        """What the head and the way of learning read."""
        s, answers = self.resolved, {Need.PAIR} if self.mode.reads_answers else set[Need]()
        return head_needs(s.net, s.form, s.max_correction, s.ppl_exponent) | answers

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
        self.head.requires_grad_(self.mode.trains)

    def calibrate(self, log_ppl: Float[Tensor, " prompts"]) -> None:
        """Set g of the head."""
        self.head.calibrate(log_ppl)

    def explain(self, features: PromptFeatures) -> HeadOutput:
        """β and what it is made of, with the features detached unless `couple`."""
        return self.head(features if self.couple else features.detached, self.mode.log_shift())

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """β of every pair's prompt, with the weight and penalty of the kind of learning."""
        self.see(features)
        seen = self.explain(features)
        self.mode.ratios_seen(seen.log_ratio)
        return self.mode.shaping(seen.beta, self.base)

    def log_metrics(self) -> dict[str, Tensor]:
        """w of the published formula, p when it is learned, and the state of the way of learning."""
        metrics = self.mode.log_metrics(self.resolved.initial_beta)
        if self.head.form == "banded":
            shift, weight = self.mode.log_shift(), self.head.weight
            metrics["beta/w"] = weight * shift.exp() if isinstance(shift, Tensor) else weight
            if self.head.ppl_exponent == "learned":
                metrics["beta/ppl_exponent"] = self.head.exponent.detach().squeeze().clone()
        return metrics
