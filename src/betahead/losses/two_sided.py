"""Losses that hold each answer to its own place: functions of both log-ratios, not of their difference alone.

A reward is β·log-ratio, with the β of the pair; raising both answers' log-ratios alike changes these losses, which a
loss of the margin does not see.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

Pairs = Float[Tensor, " pairs"]


def nca_pair(chosen: Pairs, rejected: Pairs, beta: Pairs) -> Pairs:
    """−log σ(r_w) − ½·log σ(−r_w) − ½·log σ(−r_l), with r the rewards: noise contrastive alignment of two answers.

    Args:
        chosen: log-ratio of the chosen answer, nats.
        rejected: log-ratio of the rejected answer, nats.
        beta: of the pair.

    Returns:
        Values > 0; 2·log 2 where both log-ratios are 0.

    Source:
        Chen et al. 2024, Noise Contrastive Alignment of Language Models with Explicit Rewards, with two answers and
        hard labels, https://arxiv.org/abs/2402.05369.
    """
    reward, other = beta * chosen, beta * rejected
    return -logsigmoid(reward) - 0.5 * logsigmoid(-reward) - 0.5 * logsigmoid(-other)


def bco_pair(chosen: Pairs, rejected: Pairs, beta: Pairs) -> Pairs:
    """−log σ(r_w) − log σ(−r_l): a classifier whose logit is the reward, its threshold at 0.

    Args:
        chosen: log-ratio of the chosen answer, nats.
        rejected: log-ratio of the rejected answer, nats.
        beta: of the pair.

    Returns:
        Values > 0; 2·log 2 where both log-ratios are 0. Unchanged when the answers and the signs of both log-ratios
        are swapped.

    Source:
        Jung et al. 2024, Binary Classifier Optimization, https://arxiv.org/abs/2404.04656.

    Deviates:
        Without the paper's reward shift, as in TRL 1.16; `bco` has it.
    """
    return -logsigmoid(beta * chosen) - logsigmoid(-beta * rejected)


def bco(chosen: Pairs, rejected: Pairs, beta: Pairs, *, shift: Float[Tensor, ""]) -> Pairs:
    """−log σ(r_w − δ) − log σ(δ − r_l): a classifier whose logit is the reward, its threshold where rewards are.

    Args:
        chosen: log-ratio of the chosen answer, nats.
        rejected: log-ratio of the rejected answer, nats.
        beta: of the pair.
        shift: δ, the running mean of all rewards (`losses.reward_shift`); 0 is `bco_pair`.

    Returns:
        Values > 0; 2·log 2 where both rewards are δ.

    Source:
        Jung et al. 2024, Binary Classifier Optimization, https://arxiv.org/abs/2404.04656.

    Deviates:
        δ is the mean of the steps before, where published code takes its own batch in first: the micro-batches of one
        step would see different thresholds.
    """
    return -logsigmoid(beta * chosen - shift) - logsigmoid(shift - beta * rejected)


def sppo_hard(chosen: Pairs, rejected: Pairs, beta: Pairs) -> Pairs:
    """(log-ratio_w − 1/(2β))² + (log-ratio_l + 1/(2β))²: each log-ratio at its place, half of 1/β up or down.

    Args:
        chosen: log-ratio of the chosen answer, nats.
        rejected: log-ratio of the rejected answer, nats.
        beta: of the pair.

    Returns:
        Values ≥ 0, nats²; 1/(2β²) where both log-ratios are 0.

    Source:
        Wu et al. 2024, Self-Play Preference Optimization, equation 4.7 with win rates of 1 and 0,
        https://arxiv.org/abs/2405.00675.
    """
    return (chosen - 0.5 / beta) ** 2 + (rejected + 0.5 / beta) ** 2


def apo_zero(chosen: Pairs, rejected: Pairs, beta: Pairs) -> Pairs:
    """σ(−r_w) + σ(r_l): chosen up and rejected down, for answers better than the policy's own.

    Args:
        chosen: log-ratio of the chosen answer, nats.
        rejected: log-ratio of the rejected answer, nats.
        beta: of the pair.

    Returns:
        Values in (0, 2); 1 where both log-ratios are 0.

    Source:
        D'Oosterlinck et al. 2024, Anchored Preference Optimization, equation 7, https://arxiv.org/abs/2408.06266.
    """
    return (-beta * chosen).sigmoid() + (beta * rejected).sigmoid()


def apo_down(chosen: Pairs, rejected: Pairs, beta: Pairs) -> Pairs:
    """σ(r_w) + σ(r_l − r_w): chosen down and rejected further down, for answers worse than the policy's own.

    Args:
        chosen: log-ratio of the chosen answer, nats.
        rejected: log-ratio of the rejected answer, nats.
        beta: of the pair.

    Returns:
        Values in (0, 2); 1 where both log-ratios are 0.

    Source:
        D'Oosterlinck et al. 2024, Anchored Preference Optimization, equation 8, https://arxiv.org/abs/2408.06266.
    """
    return (beta * chosen).sigmoid() + (beta * (rejected - chosen)).sigmoid()


def cal_dpo(chosen: Pairs, rejected: Pairs, beta: Pairs) -> Pairs:
    """−log σ(h) + ½·[(log-ratio_w − 1/(2β))² + (log-ratio_l + 1/(2β))²], with h the difference of the log-ratios.

    Args:
        chosen: log-ratio of the chosen answer, nats.
        rejected: log-ratio of the rejected answer, nats.
        beta: of the pair; it sets the places of the rewards and is not inside the sigmoid.

    Returns:
        Values > 0; log 2 + 1/(4β²) where both log-ratios are 0.

    Source:
        Xiao et al. 2024, Cal-DPO, with the half of its official code, https://arxiv.org/abs/2412.14516.
    """
    return -logsigmoid(chosen - rejected) + 0.5 * sppo_hard(chosen, rejected, beta)
