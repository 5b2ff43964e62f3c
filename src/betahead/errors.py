"""The errors a user can cause. Bugs are asserts; these are sentences.

Every message has one form, "`key` must be …, but is VALUE instead.", and ends with the remedy if there is one.
The command line prints the message alone and exits with code 2.
"""


def printable(text: str) -> str:
    r"""The text as one line that any terminal shows and any file takes: what cannot be printed is escaped.

    Names and values come from files of others: a line break would make two sentences of one, an escape sequence would
    command the terminal, and half of a surrogate pair cannot be encoded at all.

    Returns:
        such as `a\x1b[2Jb` for an escape character between a and b.
    """
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in text)


class BetaHeadError(ValueError):
    """A mistake in what the user gave: the message names the value, the place and the remedy, in one printable line."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class ConfigError(BetaHeadError):
    """A setting, or a combination of settings, that cannot be used."""


class DataError(BetaHeadError):
    """A data file, a row of it, or a tokenizer that cannot be used."""


class CacheError(BetaHeadError):
    """A reference cache that cannot be read, written or trusted."""


class TrainingError(BetaHeadError):
    """A run that cannot go on: its numbers are not finite, its device is full, or a guard was told to stop it."""


class RankError(BetaHeadError):
    """A process that trained along is gone, so that the others cannot go on."""


class WorkerError(BetaHeadError):
    """A worker of the data loader is gone, so that training has no more pairs."""
