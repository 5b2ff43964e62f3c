"""Losses of which no pair has its own: they act on all pairs of one pass together.

Each returns the same number of values as there are pairs, whose *mean* is the loss. With gradient accumulation they act
on each micro-batch by itself, so how a batch is cut changes them; on several ranks the micro-batch is that of all ranks
(TRL takes each rank's pairs apart), see `on_ranks`.
"""

from jaxtyping import Float
from torch import Tensor

from betahead.losses.links import sigmoid

Pairs = Float[Tensor, " pairs"]


def dr_dpo(z: Pairs, beta: Pairs, *, label_smoothing: float = 0.0, dr_dpo_beta: float = 1.0) -> Pairs:
    """−β′·log mean exp(−ℓ/β′) over the pairs, with ℓ the logistic loss of each: pairs of a large loss count less.

    Args:
        z: scaled margin.
        beta: not read; links share it.
        label_smoothing: of ℓ, in [0, 0.5).
        dr_dpo_beta: β′ > 0; towards ∞ it is the mean, towards 0 the smallest loss.

    Returns:
        The loss, once for every pair; log 2 at z = 0. At most the mean of ℓ.

    Source:
        Wu et al. 2024, Towards Robust Alignment of Language Models: Distributionally Robustifying DPO,
        https://arxiv.org/abs/2407.07880.
    """
    losses = sigmoid(z, beta, label_smoothing=label_smoothing)
    # Around the smallest loss, and as 1 plus a mean: a large β′ would leave nothing of log mean exp but its rounding.
    least = losses.detach().min()
    whole = least - dr_dpo_beta * ((least - losses) / dr_dpo_beta).expm1().mean().log1p()
    return whole.expand(len(losses))


def aot(policy_margin: Pairs, reference_margin: Pairs, beta: Pairs, *, label_smoothing: float = 0.0) -> Pairs:
    """The logistic loss of sorted policy margins over sorted reference margins: the distribution is to move up.

    With s(·) ascending order over the pairs, pair i has −log σ(s(β·m_policy)_i − s(β·m_reference)_i).

    Args:
        policy_margin: log π_θ(y_w|x) − log π_θ(y_l|x), less the target.
        reference_margin: the same of the reference.
        beta: of the pair; both margins are scaled by it before they are sorted.
        label_smoothing: in [0, 0.5).

    Returns:
        Values > 0, in the order of the sorted margins.

    Source:
        Melnyk et al. 2024, Distributional Preference Alignment of LLMs via Optimal Transport, paired,
        https://arxiv.org/abs/2406.05882.

    Deviates:
        The paper's β is one number. With a β per pair it is β·margin whose distribution moves.
    """
    return _dominance(beta * policy_margin, beta * reference_margin, label_smoothing)


def aot_unpaired(chosen: Pairs, rejected: Pairs, beta: Pairs, *, label_smoothing: float = 0.0) -> Pairs:
    """The logistic loss of sorted chosen rewards over sorted rejected rewards, whichever prompts they belong to.

    Args:
        chosen: log-ratio of the chosen answer, nats.
        rejected: log-ratio of the rejected answer, nats.
        beta: of the pair; both are scaled by it before they are sorted.
        label_smoothing: in [0, 0.5).

    Returns:
        Values > 0, in the order of the sorted rewards; log 2 where all log-ratios are 0.

    Source:
        Melnyk et al. 2024, Distributional Preference Alignment of LLMs via Optimal Transport, unpaired,
        https://arxiv.org/abs/2406.05882.

    Deviates:
        The paper's β is one number. With a β per pair it is the rewards that are sorted.
    """
    return _dominance(beta * chosen, beta * rejected, label_smoothing)


def _dominance(upper: Pairs, lower: Pairs, label_smoothing: float) -> Pairs:
    z = upper.sort().values - lower.sort().values
    return sigmoid(z, z, label_smoothing=label_smoothing)
