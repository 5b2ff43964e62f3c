"""Is A better than B on the same configurations, seeds and prompts? Intervals and tests of paired differences."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri, stdtrit

from betahead.stats.bootstrap import LEVEL, REPLICATES, Interval, _draws

# Units whose 2^n signs are all visited: in two halves, each half has 2^20 sums at most.
EXACT_UNITS = 40
FLIPS = 100_000

_BLOCK = 2_000_000


def paired_interval(
    differences: Float[np.ndarray, "*configurations seeds prompts"],
    *,
    seed: int,
    replicates: int = REPLICATES,
    level: float = LEVEL,
) -> Interval:
    """The mean difference with its bootstrap interval over configurations, seeds and prompts.

    Each replicate draws configurations, then seeds within every drawn configuration, and one set of prompts for all of
    them, because every run is scored on the same prompts. An axis of length 1 is not resampled: the interval is then
    about that one configuration, seed or prompt.

    Drawing every level counts the noise of single entries up to five times, and too few units count too little. So the
    replicates keep their shape but get the spread of the unbiased estimate: with n units (configurations, or seeds of a
    single one) and P prompts, Var = A + B − E, where A is the variance of the units' means over n, B that of the
    prompts' means over P, and E the variance of what neither explains over n·P; it is never below A or B. The
    quantiles are Φ(t), with t the Student quantile of Satterthwaite's degrees of freedom, Var²/(A²/(n−1) + B²/(P−1)).

    Args:
        differences: A minus B, finite; two axes mean a single configuration.
        seed: of a generator of its own; the same seed and shape give the same resamples.
        replicates: resamples drawn.
        level: the share of repetitions in which the interval should hold the truth, in (0, 1).

    Returns:
        The plain mean and its bounds, which are None where no axis is longer than 1.

    Source:
        Owen 2007, The pigeonhole bootstrap, https://arxiv.org/abs/0712.1111 (crossed levels, what is counted twice);
        Davison and Hinkley 1997, section 3.8 (nested levels); Satterthwaite 1946, Biometrics Bulletin 2, 110–114;
        Hesterberg 2015, section 5.3, expanded percentile intervals, https://arxiv.org/abs/1411.5279.
    """
    assert differences.ndim in {2, 3} and differences.size > 0, differences.shape
    assert np.isfinite(differences).all(), "paired differences must be finite"
    assert 0.0 < level < 1.0 and replicates > 0, (level, replicates)
    cells = differences if differences.ndim == 3 else differences[None]
    configurations, seeds, prompts = cells.shape
    estimate = float(np.mean(cells))
    if cells.size == 1:
        return Interval(estimate=estimate, low=None, high=None)
    rng = np.random.default_rng(seed)
    flat = cells.reshape(-1, prompts)
    block = max(1, _BLOCK // max(flat.shape))
    found: list[np.ndarray] = []
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        per_prompt = _run_draws(rng, size, configurations, seeds) @ flat
        found.append((per_prompt * _draws(rng, size, prompts)).sum(axis=1) / cells.size)
    error, freedom = _error_of_mean(cells[0] if configurations == 1 else cells.mean(axis=1))
    drawn = np.concatenate(found)
    spread = float(np.std(drawn))
    if spread > 0.0:
        drawn = estimate + (drawn - estimate) * (error / spread)
    tail = float(ndtr(stdtrit(freedom, (1.0 - level) / 2.0)))
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return Interval(estimate=estimate, low=float(low), high=float(high))


def _error_of_mean(cells: Float[np.ndarray, "units prompts"]) -> tuple[float, float]:
    """The standard error of the mean over crossed units and prompts, and its degrees of freedom."""
    units, prompts = cells.shape
    of_units, of_prompts = cells.mean(axis=1), cells.mean(axis=0)
    rest = cells - of_units[:, None] - of_prompts + cells.mean()
    a = float(np.var(of_units, ddof=1)) / units if units > 1 else 0.0
    b = float(np.var(of_prompts, ddof=1)) / prompts if prompts > 1 else 0.0
    e = float(np.sum(rest**2)) / ((units - 1) * (prompts - 1)) / cells.size if min(cells.shape) > 1 else 0.0
    # By chance e can exceed what a and b have in common.
    variance = max(a + b - e, a, b)
    if variance == 0.0:
        return 0.0, 1.0
    freedom = (variance / math.hypot(a / math.sqrt(max(units - 1, 1)), b / math.sqrt(max(prompts - 1, 1)))) ** 2
    return math.sqrt(variance), freedom


def _run_draws(
    rng: np.random.Generator, replicates: int, configurations: int, seeds: int
) -> Float[np.ndarray, "replicates runs"]:
    """How often each run is drawn: configurations first, then the seeds of each drawn one anew."""
    runs = configurations * seeds
    drawn = rng.integers(0, configurations, size=(replicates, configurations, 1)) * seeds
    cells = drawn + rng.integers(0, seeds, size=(replicates, configurations, seeds))
    cells = cells.reshape(replicates, runs) + runs * np.arange(replicates)[:, None]
    return np.bincount(cells.ravel(), minlength=replicates * runs).reshape(replicates, runs).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Whether two methods differ by less than what is worth having, and the interval that says so.

    Attributes:
        interval: of level 1 − 2·alpha, 90 % by default.
        rope: half the width of the region of practical equivalence.
    """

    interval: Interval
    rope: float

    @property
    def holds(self) -> bool:
        """Whether the interval lies strictly inside ±rope; never without an interval."""
        low, high = self.interval.low, self.interval.high
        return low is not None and high is not None and -self.rope < low and high < self.rope


def equivalence(
    differences: Float[np.ndarray, "*configurations seeds prompts"],
    *,
    rope: float,
    seed: int,
    alpha: float = 0.05,
    replicates: int = REPLICATES,
) -> Equivalence:
    """Two one-sided tests at once: the interval of level 1 − 2·alpha, and whether it lies inside ±rope.

    Args:
        differences: as for `paired_interval`.
        rope: the smallest difference worth having, above 0, in the unit of the differences.
        seed: of a generator of its own.
        alpha: the chance of calling a difference of exactly ±rope equivalent, in (0, ½).
        replicates: resamples drawn.

    Source:
        Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15, 657–680.
    """
    assert rope > 0.0 and 0.0 < alpha < 0.5, (rope, alpha)
    interval = paired_interval(differences, seed=seed, replicates=replicates, level=1.0 - 2.0 * alpha)
    return Equivalence(interval=interval, rope=rope)


def smallest_p(units: int) -> float:
    """The smallest two-sided p that a sign-flip test of so many units can give: 1/32 for 6 units.

    Up to `EXACT_UNITS` units 2^(1−n); beyond that the p of `sign_flip_p` is one of `FLIPS` random flips and the
    observed, 1/(`FLIPS` + 1).
    """
    assert units > 0, units
    return 2.0 ** (1 - units) if units <= EXACT_UNITS else 1.0 / (1 + FLIPS)


def sign_flip_p(differences: Float[np.ndarray, " units"], *, seed: int = 0, flips: int = FLIPS) -> float:
    """The two-sided p-value of mean difference 0 by flipping signs: the share of signs s with |Σ s·d| ≥ |Σ d|.

    Exact for any distribution that is symmetric about 0, whatever the spread of each unit. Up to `EXACT_UNITS` units
    all 2^n signs are counted; beyond that, `flips` random ones and the observed.

    Args:
        differences: one number per *independent* unit, such as the mean over prompts of one pair of runs.
        seed: of the random flips beyond `EXACT_UNITS` units; not read below.
        flips: random flips beyond `EXACT_UNITS` units.

    Returns:
        At least `smallest_p`, 2^(1−n) where it is exact, reached when all differences have one sign; 1 where they sum
        to 0. A difference of 0 stays in: (1, 2, 3) gives 1/4, (1, 2, 3, 0) too.

    Source:
        Fisher 1935, The Design of Experiments, section 21; halves: Horowitz and Sahni 1974, Journal of the ACM 21,
        277–292; random flips: Phipson and Smyth 2010, https://arxiv.org/abs/1603.05766.
    """
    assert np.isfinite(differences).all() and len(differences) > 0, differences
    sizes = np.abs(differences)
    # Sums that are equal in exact arithmetic differ by rounding, and must still count as equal.
    slack = 1e-12 * float(sizes.sum())
    least = abs(float(differences.sum())) - slack
    if least <= slack:
        return 1.0
    if len(sizes) > EXACT_UNITS:
        return _random_flips_p(sizes, least, np.random.default_rng(seed), flips)
    half = len(sizes) // 2
    left, right = _signed_sums(sizes[:half]), np.sort(_signed_sums(sizes[half:]))
    above = np.sum(len(right) - np.searchsorted(right, least - left, side="left"), dtype=np.int64)
    # The sums lie symmetrically about 0: as many are below as above.
    return min(1.0, 2.0 * int(above) / 2.0 ** len(sizes))


def _signed_sums(sizes: Float[np.ndarray, " units"]) -> Float[np.ndarray, " signs"]:
    """All 2^n sums of ±size; a single 0 for no units."""
    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate([sums + size, sums - size])
    return sums


def _random_flips_p(sizes: Float[np.ndarray, " units"], least: float, rng: np.random.Generator, flips: int) -> float:
    above, block = 0, max(1, _BLOCK // len(sizes))
    for start in range(0, flips, block):
        signs = rng.integers(0, 2, size=(min(block, flips - start), len(sizes))) * 2.0 - 1.0
        above += int(np.sum(np.abs(signs @ sizes) >= least))
    return (1 + above) / (1 + flips)


def win_probability(differences: Float[np.ndarray, " units"], *, level: float = LEVEL) -> Interval:
    """P(A > B): how often A beats B on a fresh unit, with its Wilson interval.

    Args:
        differences: A minus B, one number per independent unit; a tie counts half.
        level: of the interval, in (0, 1).

    Returns:
        The share of wins and bounds in [0, 1], never of width 0: 8 wins of 8 gives 1 with the interval (0.68, 1).

    Source:
        Bouthillier et al. 2021, Accounting for variance in machine learning benchmarks, section 4,
        https://arxiv.org/abs/2103.03098; interval: Wilson 1927, JASA 22, 209–212.

    Deviates:
        from Bouthillier's percentile bootstrap, which gives 8 wins of 8 an interval of no width. Ties make the interval
        wider than it had to be.
    """
    assert len(differences) > 0 and not np.isnan(differences).any(), differences
    assert 0.0 < level < 1.0, level
    units = len(differences)
    share = float(np.mean((np.sign(differences) + 1.0) / 2.0))
    z2 = float(ndtri((1.0 + level) / 2.0)) ** 2
    centre = (share + z2 / (2.0 * units)) / (1.0 + z2 / units)
    reach = math.sqrt(z2 * (share * (1.0 - share) / units + z2 / (4.0 * units**2))) / (1.0 + z2 / units)
    return Interval(estimate=share, low=max(0.0, centre - reach), high=min(1.0, centre + reach))
