"""The level of β by dual ascent: a KL above its budget raises it, one below lowers it."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from betahead.beta.head_settings import number

Target = float | Float[Tensor, "*runs"]


@dataclass(frozen=True, eq=False, kw_only=True)
class DualAscent:
    """Ascent in log β on the Lagrange multiplier β of the constraint KL ≤ target, damped.

    β is the price of a nat: max E r − β·(KL − target). Its ascent direction is the relative excess
    e = clip(KL/target − 1, −1, 1), and with one estimate every `steps` optimizer steps

        log β ← clip( log β + rate·(steps·e + horizon·(e − e of the estimate before)), low, high ).

    The second term is damping: in place of where the KL is, the level answers to where it will be `horizon` steps from
    now at its present pace. Without it the level would wind down as long as the policy is on its way to the budget,
    and overshoot. Since the level itself is clipped and nothing beside it
    adds up, a level that was held at a bound leaves it with the first estimate that says so.

    A level that moves must not change how hard pairs push: divide the loss by it. Otherwise the steps of an optimizer
    that remembers the size of gradients, Adam for one, shrink as β falls, and the policy stops before its budget.

    Args:
        target: nats per answer, > 0; one for all runs or one for each.
        rate: change of log β per optimizer step at |e| = 1, > 0.
        horizon: steps ahead, ≥ 0.

    Source:
        Dual ascent: Boyd et al. 2011, section 2.1, https://doi.org/10.1561/2200000016. The damping is the proportional
        term of Stooke et al. 2020, https://arxiv.org/abs/2007.03964, here in log β and in increments.

    Raises:
        ConfigError: for a value out of range.
    """

    target: Target
    rate: float = 0.1
    horizon: float = 40.0

    def __post_init__(self) -> None:
        """Check the ranges, that of a target which is one number included."""
        if not isinstance(self.target, Tensor):
            number("learning.target_kl", self.target, "a positive number", 0, inside=False)
        number("learning.level_rate", self.rate, "a positive number", 0, inside=False)
        number("learning.level_horizon", self.horizon, "at least 0", 0)

    def excess(self, kl: Float[Tensor, "*runs"]) -> Float[Tensor, "*runs"]:
        """e in [−1, 1]: 0 on target, −1 for a policy that has not moved, 1 from twice the target on."""
        return (kl / self.target - 1.0).clamp(-1.0, 1.0)

    def moved(
        self,
        log_level: Float[Tensor, "*runs"],
        kl: Float[Tensor, "*runs"],
        before: Float[Tensor, "*runs"],
        *,
        limits: tuple[float, float],
        steps: int = 1,
    ) -> Float[Tensor, "*runs"]:
        """The level after an estimate.

        Args:
            log_level: log β, or log β/β₀ with limits of the same.
            kl: the estimate, nats; noise may put it below 0.
            before: the estimate before; 0 at the start, where the policy is the reference.
            limits: the smallest and the largest level.
            steps: optimizer steps since then.

        Returns:
            The level itself where the estimate is on target and has not moved.
        """
        excess = self.excess(kl)
        change = excess - self.excess(before)
        return (log_level + self.rate * (steps * excess + self.horizon * change)).clamp(*limits)
