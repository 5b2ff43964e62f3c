"""Links: from the scaled margin z = β·(h − target) of a pair to its loss."""

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

Pairs = Float[Tensor, " pairs"]

# What has a square in float32; the score of an f-divergence may lie beyond it, and has no gradient of use there.
_FARTHEST = 1e18


def sigmoid(z: Pairs, beta: Pairs, *, label_smoothing: float = 0.0) -> Pairs:
    """The logistic loss −(1−e)·log σ(z) − e·log σ(−z), with e the label smoothing.

    Args:
        z: scaled margin.
        beta: not read; links share it.
        label_smoothing: e in [0, 0.5), the assumed share of flipped labels; 0 is DPO, above it cDPO.

    Returns:
        Values > 0; log 2 at z = 0 for every e.

    Source:
        Rafailov et al. 2023, equation 7, https://arxiv.org/abs/2305.18290; smoothing: Mitchell,
        A note on DPO with noisy preferences, https://ericmitchell.ai/cdpo.pdf. On log-ratios per token
        (`sigmoid_norm`): Lambert et al. 2024, Tülu 3, section 5, https://arxiv.org/abs/2411.15124.
    """
    if label_smoothing == 0.0:
        return -logsigmoid(z)
    return -(1.0 - label_smoothing) * logsigmoid(z) - label_smoothing * logsigmoid(-z)


def robust(z: Pairs, beta: Pairs, *, label_smoothing: float = 0.0) -> Pairs:
    """The unbiased loss under flips, [−(1−e)·log σ(z) + e·log σ(−z)] / (1−2e).

    Args:
        z: scaled margin.
        beta: not read; links share it.
        label_smoothing: e in [0, 0.5), the known share of flipped labels.

    Returns:
        Values of either sign; log 2 at z = 0 for every e.

    Source:
        Ray Chowdhury et al. 2024, Provably Robust DPO, https://arxiv.org/abs/2403.00409.
    """
    e = label_smoothing
    return (-(1.0 - e) * logsigmoid(z) + e * logsigmoid(-z)) / (1.0 - 2.0 * e)


def hinge(z: Pairs, beta: Pairs) -> Pairs:
    """The hinge max(0, 1 − z).

    Returns:
        Values ≥ 0; 1 at z = 0, exactly 0 from z = 1 on.

    Source:
        Zhao et al. 2023, SLiC-HF, https://arxiv.org/abs/2305.10425; Liu et al. 2023, RSO,
        https://arxiv.org/abs/2309.06657.
    """
    return relu(1.0 - z)


def ipo(z: Pairs, beta: Pairs) -> Pairs:
    """The squared distance of the margin to its target gap, ((z − ½)/β)² = (h − 1/(2β))².

    Args:
        z: scaled margin of *per-token* log-ratios.
        beta: IPO's τ.

    Returns:
        Values ≥ 0; 1/(4β²) at z = 0.

    Source:
        Azar et al. 2023, equation 17, https://arxiv.org/abs/2310.12036.

    Deviates:
        The paper sums log-ratios over tokens; like TRL, and as its authors confirmed there, we take the mean.
    """
    return ((z - 0.5) / beta).clamp(-_FARTHEST, _FARTHEST) ** 2


def exo_pair(z: Pairs, beta: Pairs, *, label_smoothing: float) -> Pairs:
    """The reverse KL divergence KL(p ‖ q) of p = (σ(z), σ(−z)) from the labels q = (1 − e, e).

    Args:
        z: scaled margin.
        beta: not read; links share it.
        label_smoothing: e in (0, 0.5): with hard labels the divergence is infinite. The paper uses 1e-3.

    Returns:
        Values ≥ 0; exactly 0 where z = logit(1 − e), and −log 2 − ½·log(e(1 − e)) at z = 0.

    Source:
        Ji et al. 2024, Towards Efficient Exact Optimization of Language Model Alignment, equation 16,
        https://arxiv.org/abs/2402.00856.
    """
    right, wrong = logsigmoid(z), logsigmoid(-z)
    return right.exp() * (right - math.log1p(-label_smoothing)) + wrong.exp() * (wrong - math.log(label_smoothing))


def discopop(z: Pairs, beta: Pairs, *, discopop_tau: float = 0.05) -> Pairs:
    """The logistic and the exponential loss, blended by g = σ(z/τ): −(1 − g)·log σ(z) + g·exp(−z).

    Args:
        z: scaled margin.
        beta: not read; links share it.
        discopop_tau: τ > 0; up to 1 the second term stays bounded where the pair is wrong.

    Returns:
        Values > 0, with more than one minimum; ½·(log 2 + 1) at z = 0.

    Source:
        Lu et al. 2024, Discovering Preference Optimization Algorithms with and for Large Language Models, equation 5,
        https://arxiv.org/abs/2406.08414.
    """
    # One exponent: apart, the factors are ∞ and 0 where the margin is far below zero.
    exponential = (logsigmoid(z / discopop_tau) - z).exp()
    return -logsigmoid(z) * (-z / discopop_tau).sigmoid() + exponential


def simpo(z: Pairs, beta: Pairs, *, label_smoothing: float = 0.0, simpo_gamma: float = 0.5) -> Pairs:
    """The logistic loss of z − γ, with z of the policy's own log-probabilities per token: a target margin of γ/β.

    Args:
        z: scaled margin of per-token log-probabilities, without a reference.
        beta: not read; links share it.
        label_smoothing: e in [0, 0.5).
        simpo_gamma: γ ≥ 0, in units of z.

    Returns:
        Values > 0; log 2 at z = γ for every e.

    Source:
        Meng et al. 2024, SimPO, equation 6, https://arxiv.org/abs/2405.14734.

    Deviates:
        The defaults are TRL's: γ = 0.5 with β = 0.1 is a target of 5 nats per token. The authors have β of 2 to 10 and
        γ/β mostly of 0.3 to 0.5 (0.1 to 0.8 in all), so say β; at β = 2 the default γ is a target of 0.25.
    """
    return sigmoid(z - simpo_gamma, beta, label_smoothing=label_smoothing)
