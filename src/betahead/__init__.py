"""Preference fine-tuning whose β is learned per prompt.

The public names are loaded when they are first used, so that importing the package, and the command line's help, stay
fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from betahead.beta.fixed import FixedBeta as FixedBeta
    from betahead.beta.head import BetaHead as BetaHead
    from betahead.beta.learned import LearnedBeta as LearnedBeta
    from betahead.beta.rule import BetaRule as BetaRule
    from betahead.errors import BetaHeadError as BetaHeadError
    from betahead.errors import CacheError as CacheError
    from betahead.errors import ConfigError as ConfigError
    from betahead.errors import DataError as DataError
    from betahead.errors import TrainingError as TrainingError
    from betahead.forward.token_logps import token_logps as token_logps
    from betahead.losses.preference import preference_loss as preference_loss
    from betahead.train.arguments import DPOConfig as DPOConfig
    from betahead.train.trainer import DPOTrainer as DPOTrainer
    from betahead.types import PromptFeatures as PromptFeatures
    from betahead.types import Shaping as Shaping

_HOMES = {
    "BetaHead": "beta.head",
    "BetaHeadError": "errors",
    "BetaRule": "beta.rule",
    "CacheError": "errors",
    "ConfigError": "errors",
    "DPOConfig": "train.arguments",
    "DPOTrainer": "train.trainer",
    "DataError": "errors",
    "FixedBeta": "beta.fixed",
    "LearnedBeta": "beta.learned",
    "PromptFeatures": "types",
    "Shaping": "types",
    "TrainingError": "errors",
    "preference_loss": "losses.preference",
    "token_logps": "forward.token_logps",
}

__all__ = [
    "BetaHead",
    "BetaHeadError",
    "BetaRule",
    "CacheError",
    "ConfigError",
    "DPOConfig",
    "DPOTrainer",
    "DataError",
    "FixedBeta",
    "LearnedBeta",
    "PromptFeatures",
    "Shaping",
    "TrainingError",
    "__version__",
    "preference_loss",
    "token_logps",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
