"""The table of beta rules: a rule is one file and one line here."""

from collections.abc import Mapping
from types import MappingProxyType

from betahead.beta.adaptive_scaling import AdaptiveScaling
from betahead.beta.alpha_dpo import AlphaTarget
from betahead.beta.amapo import BelowMeanTarget
from betahead.beta.beta_dpo import BatchAdaptiveBeta
from betahead.beta.control_levels import FlippedBeta, MatchedBeta, NoiseBeta
from betahead.beta.controls import PermutedBeta
from betahead.beta.dama import BoundedRatioBeta
from betahead.beta.epsilon_dpo import PerturbedBeta
from betahead.beta.fixed import FixedBeta
from betahead.beta.gamma_po import AllocatedTarget
from betahead.beta.given import GivenBeta
from betahead.beta.kl_controller import KLController
from betahead.beta.learned import LearnedBeta
from betahead.beta.madpo import RewardMarginWeight
from betahead.beta.mallows import DispersionBeta
from betahead.beta.odpo import OffsetTarget
from betahead.beta.quantile_controller import QuantileController
from betahead.beta.rule import BetaRule
from betahead.beta.wpo import OnPolicyWeight

METHODS: tuple[type[BetaRule], ...] = (
    FixedBeta,
    LearnedBeta,
    GivenBeta,
    OffsetTarget,
    RewardMarginWeight,
    OnPolicyWeight,
    DispersionBeta,
    PerturbedBeta,
    BatchAdaptiveBeta,
    AlphaTarget,
    AdaptiveScaling,
    AllocatedTarget,
    BelowMeanTarget,
    BoundedRatioBeta,
    QuantileController,
    KLController,
)
"""Rules that a config can name; their constructor's arguments are the keys of its section `beta`."""

CONTROLS: tuple[type[BetaRule], ...] = (PermutedBeta, NoiseBeta, FlippedBeta, MatchedBeta)
"""Rules around another rule, for comparisons."""

RULES: Mapping[str, type[BetaRule]] = MappingProxyType({rule.kind: rule for rule in (*METHODS, *CONTROLS)})
"""All of them by kind."""
