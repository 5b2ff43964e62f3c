"""What asking a judge costs: a guess beforehand, and afterwards what its provider counted."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from betahead.evaluate.judge_cache import Reply

Prices = tuple[float, float]
"""Of a million tokens in, and of a million tokens out."""


@dataclass(frozen=True, kw_only=True)
class Outlay:
    """What questions will cost at most.

    Args:
        requests: to be made.
        kept: answered from the cache.
        tokens_in: of the questions, about.
        tokens_out: of the replies, if all are as long as they may be.
    """

    requests: int
    kept: int
    tokens_in: int
    tokens_out: int

    def price(self, prices: Prices) -> float:
        """In the currency of the prices."""
        return _price(self.tokens_in, self.tokens_out, prices)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What questions have cost.

    Args:
        requests: made.
        kept: answered from the cache.
        counted: requests whose tokens the provider counted, both ways.
        tokens_in: of the questions of those.
        tokens_out: of their replies.
    """

    requests: int = 0
    kept: int = 0
    counted: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def plus(self, reply: Reply) -> "Spent":
        """With one more request, which had this reply."""
        asked = replace(self, requests=self.requests + 1)
        if reply.tokens_in is None or reply.tokens_out is None:
            return asked
        return replace(
            asked,
            counted=self.counted + 1,
            tokens_in=self.tokens_in + reply.tokens_in,
            tokens_out=self.tokens_out + reply.tokens_out,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; tokens that nobody counted are None, not 0."""
        known = self.counted > 0 or self.requests == 0
        return asdict(self) | ({} if known else {"tokens_in": None, "tokens_out": None})


def price_of(cost: dict[str, Any], prices: Prices) -> float | None:
    """The price of the requests whose tokens were counted; None where none were.

    Args:
        cost: as `Spent.to_dict` has it.
        prices: of a million tokens in and out.
    """
    return None if cost["tokens_in"] is None else _price(cost["tokens_in"], cost["tokens_out"], prices)


def _price(tokens_in: int, tokens_out: int, prices: Prices) -> float:
    return (tokens_in * prices[0] + tokens_out * prices[1]) / 1e6
