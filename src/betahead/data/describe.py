"""What a preference data set holds, before anything is trained on it."""

from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from transformers import PreTrainedTokenizerBase

from betahead.data.formats import pair_from_row
from betahead.data.lengths import tokens_of_rows
from betahead.data.prepare import laid_out, prepare_pairs
from betahead.data.records import prompt_id
from betahead.data.rows import RowError
from betahead.data.sources import Source, source_name, source_rows
from betahead.data.summary import DataSummary
from betahead.data.tally import PairTally
from betahead.errors import ConfigError

_QUANTILES = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)
# More tokens than any answer has: without a limit of their own, lengths are described uncut.
_UNLIMITED = 2**31


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Length of one part of the pairs: the mean, and the quantiles under their names, such as `10%`."""

    mean: float
    quantiles: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class DataDescription:
    """What a data set holds.

    Args:
        summary: rows kept and dropped.
        unit: what lengths are counted in, `tokens` or `words`.
        lengths: of `prompt`, `chosen` and `rejected`.
        longer_wins: share of pairs whose chosen answer is the longer one.
        same_length: share of pairs whose answers have the same length.
        domains: pairs per domain, the most frequent first.
        distinct_prompts: how many prompts there are.
        repeated_prompts: how many of them have more than one pair.
        repeated_pairs: pairs that are exact copies of an earlier one.
        contradictions: pairs whose reverse is in the data, too.
        leaked: share of held-out rows whose prompt would also be trained on if 5 % of the rows were held out at random.
        sharing_gain: sum(2P + C + R) / sum(P + C + R), the factor of tokens saved when both answers share one prompt.
    """

    summary: DataSummary
    unit: str
    lengths: dict[str, Lengths]
    longer_wins: float
    same_length: float
    domains: dict[str, int]
    distinct_prompts: int
    repeated_prompts: int
    repeated_pairs: int
    contradictions: int
    leaked: float
    sharing_gain: float

    def to_dict(self) -> dict[str, Any]:
        """The description as plain values, for JSON."""
        return asdict(self) | {"summary": self.summary.to_dict()}


def describe(
    source: Source,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    layout: str = "auto",
    max_length: int | None = None,
    split: str = "train",
) -> DataDescription:
    """Read a source and say what it holds; rows that cannot be used are counted, however many they are.

    Args:
        source: as for `prepare_pairs`.
        tokenizer: counts lengths in tokens, template included; None counts words.
        layout: as for `prepare_pairs`.
        max_length: drop prompts and cut answers as training with this limit would; None leaves them whole.
        split: as for `prepare_pairs`.

    Raises:
        ConfigError: `max_length` without a tokenizer.
        DataError: a source that cannot be read, or without one usable row.
    """
    if tokenizer is None:
        if max_length is not None:
            raise ConfigError(f"`max_length` counts tokens, but is {max_length} without a tokenizer; name one.")
        summary, pairs = _in_words(source, layout, split)
    else:
        summary, pairs = _in_tokens(source, tokenizer, layout, max_length or _UNLIMITED, split)
    return _description(summary, "words" if tokenizer is None else "tokens", pairs)


def _in_words(source: Source, layout: str, split: str) -> tuple[DataSummary, PairTally]:
    found, rows = laid_out(source_rows(source, split), layout, source_name(source))
    if found == "tokenized":
        raise ConfigError(
            f"{source_name(source)} holds token ids, which only their tokenizer can read, but no tokenizer is given; "
            "name it."
        )
    summary = DataSummary(source=source_name(source), layout=found)
    pairs = PairTally()
    errors: list[RowError] = []
    for row in rows:
        summary.rows += 1
        try:
            pair = pair_from_row(row, found)
        except RowError as error:
            summary.drop(error)
            errors = errors or [error]
            continue
        summary.kept += 1
        prompt = pair.prompt if isinstance(pair.prompt, str) else " ".join(item["content"] for item in pair.prompt)
        lengths = (len(prompt.split()), len(pair.chosen.split()), len(pair.rejected.split()))
        pairs.add(prompt_id(pair), pair.chosen, pair.rejected, pair.domain, lengths)
    summary.check(1.0, errors)
    return summary, pairs


def _in_tokens(
    source: Source, tokenizer: PreTrainedTokenizerBase, layout: str, max_length: int, split: str
) -> tuple[DataSummary, PairTally]:
    prepared = prepare_pairs(source, tokenizer, layout=layout, max_length=max_length, split=split, max_dropped=1.0)
    texts = prepared.dataset.select_columns(["prompt_id", "chosen", "rejected", "domain"])
    pairs = PairTally()
    for row, tokens in zip(texts, tokens_of_rows(prepared.dataset), strict=True):
        who, chosen, rejected, domain = (str(value) for value in cast("dict[str, Any]", row).values())
        pairs.add(who, chosen, rejected, domain, (tokens.prompt, tokens.chosen, tokens.rejected))
    return prepared.summary, pairs


def _description(summary: DataSummary, unit: str, pairs: PairTally) -> DataDescription:
    prompt, chosen, rejected = pairs.lengths.T
    rows_of_prompt = pairs.rows_of_prompts()
    return DataDescription(
        summary=summary,
        unit=unit,
        lengths={
            name: Lengths(
                mean=float(part.mean()),
                quantiles={f"{share:.0%}": float(np.quantile(part, share)) for share in _QUANTILES},
            )
            for name, part in (("prompt", prompt), ("chosen", chosen), ("rejected", rejected))
        },
        longer_wins=float((chosen > rejected).mean()),
        same_length=float((chosen == rejected).mean()),
        domains=dict(pairs.domains.most_common()),
        distinct_prompts=len(rows_of_prompt),
        repeated_prompts=int((rows_of_prompt > 1).sum()),
        repeated_pairs=pairs.repeated(),
        contradictions=pairs.contradicted(),
        leaked=_leaked(rows_of_prompt),
        sharing_gain=float((2 * prompt + chosen + rejected).sum() / (prompt + chosen + rejected).sum()),
    )


def _leaked(rows_of_prompt: "np.ndarray[Any, np.dtype[np.int64]]", holdout: float = 0.05) -> float:
    """Share of held-out rows of which another row with the same prompt is trained on, when rows are drawn at random."""
    rows = rows_of_prompt.astype(np.float64)
    return float((rows * (1 - holdout ** (rows - 1))).sum() / rows.sum())
