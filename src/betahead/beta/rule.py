"""What every beta rule is: a module from prompt features and margins to shaping, that says what it needs."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from betahead.beta.card import MethodCard
from betahead.beta.heldout import HeldOut
from betahead.beta.kl_sampling import KLSampling
from betahead.beta.need import Need
from betahead.errors import ConfigError
from betahead.types import PromptFeatures, Shaping

Reads = Literal["nothing", "prompt", "batch", "pair"]
"""What decides a rule's β."""

MarginOf = Literal["reference", "reference_means", "policy"]
"""What the margin h of a rule is: measured against the reference (of sums, or of means where the link says so), the
same of means per token whatever the link says, or the difference of the policy's own mean log-probabilities per token.
"""


def _alone(of: Tensor) -> Tensor:
    return of


class BetaRule(nn.Module, ABC):
    """The interface of beta rules.

    A rule is a module, so that its parameters and moving statistics live in the same checkpoint and under the same
    wrappers as the policy. It knows no config, no rank and no clock.

    Attributes:
        kind: the rule's name in configs and files.
        reads: what decides β: nothing, the prompt, the batch or the pair.
        card: what `betahead methods` says of the rule.
        columns: columns of the data that `forward` reads, of `types.PAIR_COLUMNS`; a batch without one is refused.
        positive: those of them whose numbers must be above 0.
        column_remedy: what to do about a number that it cannot use.
        of_reference: those of `needs` for which the reference is asked, known before the rule is built.
        perturbation: ε of `Need.PERTURBED`.
        drifts_from: where a level of β that nothing bounds begins; it is logged as `beta/base`, to be watched.
        margin_of: what h is measured against.
        weighs: the weight of its shaping is not 1, so that a loss must keep pairs apart.
        evens_push: the loss is divided by the level of β or by β, so that it must push in proportion to β at first.
        moves_target: the target of its shaping is not 0, so that a loss must have a margin to take it from.
        smooths: label smoothing has a meaning with it.
        gathered: puts the same tensor of all ranks end to end, for rules that read the batch; the identity on one.
        couple: whether gradient may flow from β through the prompt features into the policy.
        ppl_from: whose perplexity of the prompt is read.
        ppl_tokens: which prompt tokens it counts.
        learning_rate: step size of the rule's parameters.
        kl_sampling: what the trainer is to sample from the policy for `kl_measured`, or None for nothing.
        links: the links that the rule's mathematics is made for, or None for all of them.
        held_out: what the trainer is to take the rule's gradient from, or None for a rule that descends its loss.
    """

    kind: ClassVar[str]
    reads: ClassVar[Reads]
    card: ClassVar[MethodCard]
    couple: bool = False
    ppl_from: Literal["policy", "reference"] = "policy"
    ppl_tokens: Literal["all", "content"] = "all"
    learning_rate: float = 1e-3
    links: frozenset[str] | None = None
    kl_sampling: KLSampling | None = None
    columns: frozenset[str] = frozenset()
    positive: frozenset[str] = frozenset()
    column_remedy: str = "correct the column"
    of_reference: frozenset[Need] = frozenset()
    perturbation: float = 0.0
    drifts_from: float | None = None
    margin_of: MarginOf = "reference"
    weighs: bool = False
    evens_push: bool = False
    moves_target: bool = False
    smooths: bool = True
    gathered: Callable[[Tensor], Tensor] = staticmethod(_alone)
    held_out: HeldOut | None = None

    @property
    @abstractmethod
    def needs(self) -> frozenset[Need]:
        """What `forward` reads of prompts and pairs; the engine computes this and no more."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval that β is held in, or None for a rule without bounds."""
        return None

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments, resolved, as JSON values: `type(rule)(**rule.settings)` is the same rule."""

    def build(self, hidden_size: int, *, seed: int) -> None:
        """Create what depends on the policy's width. Rules without a network have nothing to build."""

    def check_link(self, kind: str) -> None:
        """Refuse a link that the rule's mathematics is not made for.

        Raises:
            ConfigError: with those that it is made for.
        """
        if self.links is not None and kind not in self.links:
            raise ConfigError(
                f"`loss.kind` must be {' or '.join(sorted(self.links))} with this beta rule, but is {kind} instead; "
                "its mathematics is made for no other loss."
            )

    def calibrate(self, log_ppl: Float[Tensor, " prompts"]) -> None:
        """Take the scale of log PPL from a sample of training prompts. Rules that do not read it ignore the call."""

    def calibrate_entropy(self, entropy: Float[Tensor, " pairs"]) -> None:
        """Take the scale of the reference's entropy from training pairs. Rules that do not read it ignore the call."""

    @abstractmethod
    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """The shaping of every pair.

        Args:
            features: what `needs` names, and None for the rest.
            margin: h, nats (per token where the link or `margin_of` says so), for rules that read it and for the
                number and device of the pairs.
        """

    def kl_measured(self, nats: float) -> None:
        """Learn the KL(π‖π_ref) that `kl_sampling` asked for, per answer, the same on all ranks."""

    def step_taken(self, summed: Callable[[Tensor], Tensor]) -> None:
        """Learn that all gradients of an optimizer step are there. Rules without moving statistics ignore the call.

        The trainer calls it once a step; a loop of one's own does the same.

        Args:
            summed: adds a tensor up over ranks; the identity on one.
        """

    def reshaped(self, shaping: Shaping, beta: Float[Tensor, " pairs"]) -> Shaping:
        """The shaping had β been this: controls change the β of a rule, and what hangs on it must follow."""
        return replace(shaping, beta=beta)

    def log_metrics(self) -> dict[str, Tensor]:
        """Scalars of the rule's own state that belong into the log, detached."""
        return {}
