"""WPO: a pair counts as much as it looks like what the policy would write itself."""

from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from betahead.beta.card import MethodCard
from betahead.beta.head_settings import number
from betahead.beta.plain_shaping import plain_shaping
from betahead.beta.rule import BetaRule, Need, Reads
from betahead.types import PromptFeatures, Shaping


class OnPolicyWeight(BetaRule):
    """The loss of a pair times how sure the policy is of both answers, so that data from elsewhere count less.

    weight = min(cap, exp(Σ over both answers of mean_t [log π(y_t) − log Σ_v π(v)²])), without gradient. Σ_v π(v)² is
    the mean probability of a token that the policy draws itself, so that answers of its own weigh about 1, greedy ones
    more before the cap, and answers that surprise it less.

    Args:
        beta: KL weight, > 0.
        cap: largest weight, > 0; None for none, which is TRL's `use_weighting`.

    Raises:
        ConfigError: for a value out of range.

    Source:
        Zhou et al. 2024, WPO, equation 2 and section 3.2, https://arxiv.org/abs/2406.11827.
    """

    kind: ClassVar[str] = "wpo"
    reads: ClassVar[Reads] = "pair"
    weighs: bool = True
    card: ClassVar[MethodCard] = MethodCard(
        title="WPO",
        formula="weight_i = min(cap, exp(Σ over both answers of mean_t [log π(y_t) − log Σ_v π(v)²]))",
        cost="the LM head on the answers' tokens once more, without gradient",
        source="Zhou et al. 2024, WPO, https://arxiv.org/abs/2406.11827",
        deviates="cap: null leaves the weights as TRL's use_weighting has them; the authors' code caps them at 1.",
        checked="code",
    )

    def __init__(self, beta: float = 0.1, cap: float | None = 1.0) -> None:
        super().__init__()
        self.beta = number("beta", beta, "a positive number", 0, inside=False)
        self.cap = None if cap is None else number("cap", cap, "a positive number or None", 0, inside=False)

    @property
    def needs(self) -> frozenset[Need]:
        """What the policy says of the whole vocabulary along both answers."""
        return frozenset({Need.PAIR, Need.COLLISION})

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"beta": self.beta, "cap": self.cap}

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """The constant β and the pair's weight."""
        assert features.pair is not None and features.pair.confidence is not None
        weight = features.pair.confidence.to(margin.dtype).exp()
        return plain_shaping(margin, beta=self.beta, weight=weight if self.cap is None else weight.clamp(max=self.cap))
