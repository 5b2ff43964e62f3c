"""What a method needs beyond two log-probabilities, and what it is refused with."""

from collections.abc import Iterable, Iterator

from betahead.beta.kl_sampling import KLSampling
from betahead.beta.learning import LearningMode
from betahead.beta.learning_cards import LEARNING_CARDS
from betahead.beta.rule import BetaRule, Need
from betahead.forward.agreed import measures_from_reference
from betahead.losses.table import LOSSES, Loss

_OF_PROMPTS = {Need.LOG_PPL: "log PPL of the prompt", Need.LAST_HIDDEN: "the prompt's hidden state"}
_OF_PAIRS = {
    Need.COLLISION: "the policy's whole vocabulary along both answers",
    Need.ENTROPY: "the reference's whole vocabulary along both answers",
    Need.PERTURBED: "a live reference",
}


def needs_of_rule(rule: BetaRule) -> Iterator[str]:
    """What a rule reads, a clause each."""
    yield from (f"column {name}" for name in sorted(rule.columns))
    for need, words in (_OF_PROMPTS | _OF_PAIRS).items():
        if need in rule.needs:
            yield words
    if rule.margin_of != "reference":
        yield "means per token, not sums"


def other_than(links: Iterable[str]) -> str:
    """The clause of a rule or way of learning that is made for some losses."""
    return f"loss.kind other than {', '.join(sorted(links))}, but for sft beside it"


def with_beta_below() -> str:
    """The clause of what divides a loss by β."""
    return f"losses with 1/β in them ({', '.join(kind for kind, row in LOSSES.items() if not row.push_is_beta)})"


def refused_with_rule(rule: BetaRule) -> Iterator[str]:
    """What a rule is refused with, a clause each."""
    if rule.links is not None:
        yield other_than(rule.links)
    if rule.links is None and rule.weighs:
        yield "losses in which the pairs of a pass act on one another"
    if rule.links is None and rule.evens_push:
        yield with_beta_below()
    if rule.links is None and rule.moves_target:
        yield "losses of both log-ratios apart, which have no place for a target; simpo, which has its own"
    if not rule.smooths:
        yield "loss.label_smoothing"
    if rule.links is None and rule.reads == "batch":
        yield "a list of losses whose margins differ: with and without reference, sums and means per token"
    if Need.PERTURBED in rule.of_reference:
        yield "reference.cache other than live; data with the reference's columns"
    if measures_from_reference(rule):
        yield "losses without a reference"
    if rule.reads == "batch":
        yield "train.max_batch_tokens, which would cut the batch; a batch of one pair"
    yield from refused_with_sampling(rule.kl_sampling)
    for name in sorted(rule.columns):
        yield f"data without a {'positive' if name in rule.positive else 'finite'} {name} in every row"
        yield f"rows whose {name} is no number, which are dropped and counted"


def refused_with_learning(mode: LearningMode) -> Iterator[str]:
    """What a way of learning is refused with, a clause each."""
    if mode.links is not None:
        yield other_than(mode.links)
    yield from LEARNING_CARDS[mode.kind].refuses
    yield from refused_with_sampling(mode.kl_sampling)


def refused_with_sampling(asked: KLSampling | None) -> Iterator[str]:
    """What a KL from the policy's own answers is refused with, a clause each."""
    if asked is not None:
        yield "kl_from: samples with FSDP or DeepSpeed"
        yield "a kl_every that is not below the number of steps"


def needs_of_loss(row: Loss) -> Iterator[str]:
    """What a loss needs, a clause each."""
    if row.per_token:
        yield "means per token, not sums"
    if not row.needs_reference:
        yield "no reference"
    if row.smooths == "must":
        yield "loss.label_smoothing above 0"
    if row.has_shift:
        yield "the running mean of the rewards"
    if row.on_batch and row.reads != "chosen answer":
        yield "the pairs of a pass together"


def refused_with_loss(row: Loss) -> Iterator[str]:
    """What a loss is refused with, a clause each."""
    if row.smooths == "no":
        yield "loss.label_smoothing"
    if not row.push_is_beta:
        yield "rules that divide the loss by β (push: even) and learning.kind: budget"
    if not row.other_divergences:
        yield "loss.f_divergence_type other than reverse_kl"
    if row.on_batch:
        yield "train.max_batch_tokens"
    if row.reads in ("log-ratios", "margins of both models"):
        yield "rules whose margin is the policy's own"
    if row.reads == "log-ratios":
        yield "rules that move a target"
