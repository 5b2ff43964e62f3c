"""An answer cut into the smallest pieces that can be read, each with what both models make of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from betahead.evaluate.both_models import TokenLogps

_HALF = "�"  # what a tokenizer makes of a letter that is not yet whole


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One or several tokens that make readable text together.

    Args:
        text: as it stands in the answer.
        tokens: how many they are; more than one where a letter is spread over tokens.
        policy: their log-probability under the policy, summed, nats.
        reference: the same under the reference.
        special: whether it is a token that no text holds, such as the end of the answer.
    """

    text: str
    tokens: int
    policy: float
    reference: float
    special: bool

    @property
    def log_ratio(self) -> float:
        """log π_θ − log π_ref, nats: above 0 where training made the piece likelier."""
        return self.policy - self.reference


def pieces_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], logps: TokenLogps) -> list[Piece]:
    """The pieces of an answer, in order; their texts make the whole answer.

    Args:
        tokenizer: the policy's.
        ids: of the answer.
        logps: of the same tokens.
    """
    special = set(tokenizer.all_special_ids)
    assert len(ids) == len(logps.policy) == len(logps.reference), (len(ids), len(logps.policy), len(logps.reference))
    found: list[Piece] = []
    shown, start = "", 0
    for end in range(1, len(ids) + 1):
        whole = _text(tokenizer, ids[:end])
        if whole.endswith(_HALF) and end < len(ids) and ids[end] not in special:
            continue
        # A tokenizer that rewrites what it had written leaves no piece of its own to cut off.
        text = whole[len(shown) :] if whole.startswith(shown) else _text(tokenizer, ids[start:end])
        found.append(
            Piece(
                text=text,
                tokens=end - start,
                policy=float(logps.policy[start:end].sum()),
                reference=float(logps.reference[start:end].sum()),
                special=end - start == 1 and ids[start] in special,
            )
        )
        shown, start = whole, end
    return found


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(cast("Any", tokenizer).decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
