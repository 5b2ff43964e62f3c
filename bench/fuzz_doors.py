"""A door through which foreign input comes, and what an error that it ends in must be."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from betahead.errors import BetaHeadError


@dataclass(frozen=True, kw_only=True)
class Target:
    """A door through which foreign input comes.

    Args:
        name: of the door and the kind of input.
        inputs: makes them.
        read: what the package does with one; raises what the package raises.
        share: how many inputs it gets beside the others.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    read: Callable[[Any], None]
    share: int


def check_sentence(error: BetaHeadError) -> None:
    """What a person reads is one printable sentence."""
    sentence = str(error)
    assert sentence.isprintable() and len(sentence) < 5000, sentence[:200]
