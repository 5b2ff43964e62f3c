"""The table of beta rules: a rule is one file and one line here."""

from collections.abc import Mapping
from types import MappingProxyType

from betahead.beta.control_levels import FlippedBeta, MatchedBeta, NoiseBeta
from betahead.beta.controls import PermutedBeta
from betahead.beta.fixed import FixedBeta
from betahead.beta.given import GivenBeta
from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import BetaRule

METHODS: tuple[type[BetaRule], ...] = (
    FixedBeta,
    LearnedBeta,
    GivenBeta,
)
"""Rules that a config can name; their constructor's arguments are the keys of its section `beta`."""

CONTROLS: tuple[type[BetaRule], ...] = (PermutedBeta, NoiseBeta, FlippedBeta, MatchedBeta)
"""Rules around another rule, for comparisons."""

RULES: Mapping[str, type[BetaRule]] = MappingProxyType({rule.kind: rule for rule in (*METHODS, *CONTROLS)})
"""All of them by kind."""
