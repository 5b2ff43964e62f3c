"""The errors a user can cause. Bugs are asserts; these are sentences.

Every message has one form, "`key` must be …, but is VALUE instead.", and ends with the remedy if there is one.
The command line prints the message alone and exits with code 2.
"""


class BetaHeadError(ValueError):
    """A mistake in what the user gave: the message names the value, the place and the remedy."""


class ConfigError(BetaHeadError):
    """A setting, or a combination of settings, that cannot be used."""


class DataError(BetaHeadError):
    """A data file, a row of it, or a tokenizer that cannot be used."""


class CacheError(BetaHeadError):
    """A reference cache that cannot be read, written or trusted."""


class RankError(BetaHeadError):
    """A process that trained along is gone, so that the others cannot go on."""
