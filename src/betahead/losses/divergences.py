"""f-divergences: what stands for the log-ratio when policy and reference are held together by another one than the KL.

The reward that a divergence makes implicit is β·f′(π_θ/π_ref) plus a term of the prompt, which cancels in a margin and
nowhere else.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

Pairs = Float[Tensor, " pairs"]

# What exp still holds in float32; a log-ratio beyond it has no gradient of use any more.
_MOST = 80.0


def reverse_kl(logratio: Pairs, coefficient: float) -> Pairs:
    """log u, the log-ratio itself.

    Source:
        Wang et al. 2023, Beyond Reverse KL, table 1, https://arxiv.org/abs/2309.16240.
    """
    return logratio


def forward_kl(logratio: Pairs, coefficient: float) -> Pairs:
    """1 − 1/u: an answer that the reference likes better costs exponentially much.

    Source:
        Wang et al. 2023, Beyond Reverse KL, table 1, https://arxiv.org/abs/2309.16240, with the constant at which it is
        0 for u = 1.
    """
    return -(-logratio).clamp(max=_MOST).expm1()


def js_divergence(logratio: Pairs, coefficient: float) -> Pairs:
    """log(2u/(1 + u)): at most log 2, however much likelier an answer becomes.

    Source:
        Wang et al. 2023, Beyond Reverse KL, table 1, https://arxiv.org/abs/2309.16240.
    """
    return math.log(2.0) + logsigmoid(logratio)


def alpha_divergence(logratio: Pairs, coefficient: float) -> Pairs:
    """(u^(α−1) − 1)/(α − 1), with α the coefficient: the forward KL at 0, towards the reverse KL at 1.

    Source:
        Wang et al. 2023, Beyond Reverse KL, table 1, https://arxiv.org/abs/2309.16240, with the sign and the constants
        at which α → 1 is the reverse KL, as in TRL 1.16.
    """
    power = coefficient - 1.0
    if abs(power) < 1e-6:
        return logratio
    return (power * logratio).clamp(max=_MOST).expm1() / power


DIVERGENCES: Mapping[str, Callable[[Pairs, float], Pairs]] = MappingProxyType(
    {
        "reverse_kl": reverse_kl,
        "forward_kl": forward_kl,
        "js_divergence": js_divergence,
        "alpha_divergence": alpha_divergence,
    }
)
"""From a log-ratio log u and a coefficient, which only the α-divergence reads, to f′(u)."""
