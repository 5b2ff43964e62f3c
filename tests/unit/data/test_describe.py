import gzip
import json

import pytest

from betahead.data.describe import describe
from betahead.errors import ConfigError, DataError
from betahead.worlds.small_tokenizer import trained_tokenizer

ROWS = [
    {"prompt": "a b", "chosen": "one two three", "rejected": "one", "domain": "x"},
    {"prompt": "a b", "chosen": "one two three", "rejected": "one", "domain": "x"},
    {"prompt": "a b", "chosen": "one", "rejected": "one two three", "domain": "y"},
    {"prompt": "c", "chosen": "one", "rejected": "two", "domain": "x"},
    {"prompt": "d", "chosen": "", "rejected": "two"},
]


def test_a_small_set_is_described_as_counted_by_hand():
    found = describe(ROWS)
    assert (found.summary.rows, found.summary.kept, found.unit) == (5, 4, "words")
    assert found.lengths["prompt"].mean == 7 / 4
    assert found.lengths["chosen"].quantiles["100%"] == 3
    assert found.longer_wins == 2 / 4
    assert found.same_length == 1 / 4
    assert found.domains == {"x": 3, "y": 1}
    assert (found.distinct_prompts, found.repeated_prompts) == (2, 1)
    assert found.repeated_pairs == 1
    assert found.contradictions == 3
    # Three rows share a prompt: one that is held out finds another in training unless both are held out, too.
    assert found.leaked == pytest.approx(3 * (1 - 0.05**2) / 4)
    # P = 2, 2, 2, 1; C + R = 4, 4, 4, 2.
    assert found.sharing_gain == pytest.approx((2 * 7 + 14) / (7 + 14))


def test_a_tokenizer_counts_tokens_with_the_template(qwen):
    found = describe(ROWS, qwen)
    prompt = qwen.apply_chat_template([{"role": "user", "content": "c"}], add_generation_prompt=True)["input_ids"]
    assert found.unit == "tokens"
    assert found.lengths["prompt"].quantiles["0%"] == len(prompt)
    assert found.summary.kept == 4


def test_a_limit_drops_and_cuts_as_training_would(qwen):
    limit = int(describe(ROWS, qwen).lengths["prompt"].quantiles["0%"]) + 2
    found = describe(ROWS, qwen, max_length=limit)
    assert found.summary.cut > 0
    assert found.lengths["chosen"].quantiles["100%"] <= 2


def test_a_description_is_made_however_many_rows_are_dropped():
    assert describe([ROWS[0], *[ROWS[4]] * 9]).summary.dropped["empty answer"].count == 9
    with pytest.raises(DataError, match="must have words, but is empty"):
        describe([ROWS[4]])


def test_what_only_a_tokenizer_can_tell_asks_for_one():
    with pytest.raises(ConfigError) as caught:
        describe(ROWS, max_length=10)
    assert str(caught.value) == "`max_length` counts tokens, but is 10 without a tokenizer; name one."
    with pytest.raises(ConfigError) as caught:
        describe([{"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}])
    assert str(caught.value) == (
        "the data set holds token ids, which only their tokenizer can read, but no tokenizer is given; name it."
    )


def test_the_longer_answer_wins_most_real_pairs(real_data):
    found = describe(real_data / "alpaca_eval_pairs.jsonl.gz")
    assert found.summary.kept == found.summary.rows == 8027
    assert found.distinct_prompts == found.repeated_prompts == 805
    assert found.unit == "words"
    assert found.longer_wins + found.same_length / 2 == pytest.approx(0.82, abs=0.005)
    assert found.leaked > 0.999


def test_the_longer_answer_wins_more_real_pairs_in_tokens_and_fewer_once_they_are_cut(real_data):
    """The figures of docs/eval.md, where a tie counts half, on every eighth pair."""
    with gzip.open(real_data / "alpaca_eval_pairs.jsonl.gz", "rt", encoding="utf-8") as file:
        pairs = [json.loads(line) for line in file][::8]
    texts = (row[field] for row in pairs for field in ("prompt", "chosen", "rejected"))
    tokenizer = trained_tokenizer(texts, vocab_size=6144, max_length=8192)
    whole, cut = describe(pairs, tokenizer), describe(pairs, tokenizer, max_length=384)
    assert whole.unit == "tokens"
    assert whole.longer_wins + whole.same_length / 2 == pytest.approx(0.84, abs=0.02)
    assert cut.longer_wins + cut.same_length / 2 == pytest.approx(0.72, abs=0.02)


def test_sharing_the_prompt_pays_on_real_transcripts(real_data):
    found = describe(real_data / "hh_harmless_transcripts.jsonl.gz")
    assert found.sharing_gain == pytest.approx(1.55, abs=0.03)
