"""Counts over pairs of any number, in some forty bytes a pair: texts are known again by their digests."""

import hashlib
from array import array
from collections import Counter

import numpy as np
from jaxtyping import Int64, UInt64

# Of a million texts, two share one of these once in ten million times.
_DIGEST = 8


class PairTally:
    """What repeats among pairs, and how long they are; of a text only its digest is kept."""

    def __init__(self) -> None:
        self.domains: Counter[str] = Counter()
        self._prompts, self._pairs, self._reverses = array("Q"), array("Q"), array("Q")
        self._lengths = array("i")

    def add(self, prompt_id: str, chosen: str, rejected: str, domain: str, lengths: tuple[int, int, int]) -> None:
        """Count one pair.

        Args:
            prompt_id: the same for the same prompt.
            chosen: the preferred answer.
            rejected: the other answer.
            domain: "" for none.
            lengths: of prompt, chosen and rejected.
        """
        self._prompts.append(_digest(prompt_id))
        self._pairs.append(_digest(prompt_id, chosen, rejected))
        self._reverses.append(_digest(prompt_id, rejected, chosen))
        self._lengths.extend(lengths)
        if domain:
            self.domains[domain] += 1

    @property
    def lengths(self) -> Int64[np.ndarray, "pairs 3"]:
        """Lengths of prompt, chosen and rejected."""
        return np.frombuffer(self._lengths, dtype=np.int32).astype(np.int64).reshape(-1, 3)

    def rows_of_prompts(self) -> Int64[np.ndarray, " prompts"]:
        """How many pairs each distinct prompt has."""
        _, counts = np.unique(_digests(self._prompts), return_counts=True)
        return counts.astype(np.int64)

    def repeated(self) -> int:
        """Pairs that are exact copies of an earlier one."""
        pairs = _digests(self._pairs)
        return len(pairs) - len(np.unique(pairs))

    def contradicted(self) -> int:
        """Pairs whose reverse is among the pairs, too."""
        return int(np.isin(_digests(self._pairs), _digests(self._reverses)).sum())


def _digest(*texts: str) -> int:
    found = hashlib.blake2b(digest_size=_DIGEST)
    for text in texts:
        content = text.encode()
        found.update(len(content).to_bytes(8, "big") + content)
    return int.from_bytes(found.digest(), "big")


def _digests(content: "array[int]") -> UInt64[np.ndarray, " pairs"]:
    return np.frombuffer(content, dtype=np.uint64)
