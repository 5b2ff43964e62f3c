import gzip
import itertools
import json
import time

import datasets
import pytest
from transformers import PreTrainedTokenizerFast

from betahead.data.prepare import prepare_pairs
from betahead.errors import ConfigError, DataError

GOOD = {"prompt": "Q", "chosen": "good", "rejected": "bad"}
COLUMNS = [
    "prompt_ids",
    "chosen_ids",
    "rejected_ids",
    "ppl_mask",
    "prompt",
    "chosen",
    "rejected",
    "prompt_id",
    "domain",
]


def good(count):
    return [GOOD | {"prompt": f"Q{number}"} for number in range(count)]


def failure(source, tokenizer, **settings):
    with pytest.raises((ConfigError, DataError)) as caught:
        prepare_pairs(source, tokenizer, **settings)
    return str(caught.value)


def test_records_have_the_agreed_columns_and_strength_only_if_the_source_has_it(qwen):
    dataset = prepare_pairs(good(2), qwen).dataset
    assert dataset.column_names == COLUMNS
    record = dataset[0]
    assert qwen.decode(record["prompt_ids"]).endswith("<|im_start|>user\nQ0<|im_end|>\n<|im_start|>assistant\n")
    assert qwen.decode(record["chosen_ids"]) == "good<|im_end|>"
    assert (record["prompt"], record["chosen"], record["rejected"], record["domain"]) == ("Q0", "good", "bad", "")
    assert len(record["ppl_mask"]) == len(record["prompt_ids"])
    with_strength = prepare_pairs([GOOD | {"strength": 0.95, "domain": "koala"}, GOOD], qwen).dataset
    assert with_strength["strength"][:] == [0.95, None]
    assert with_strength["domain"][:] == ["koala", ""]


def test_every_layout_and_a_data_set_object_give_the_same_ids(qwen):
    conversation = [{"role": "user", "content": "Q"}]
    answers = {name: [*conversation, {"role": "assistant", "content": GOOD[name]}] for name in ("chosen", "rejected")}
    sources = [
        [GOOD],
        datasets.Dataset.from_list([GOOD]),
        [answers],
        datasets.Dataset.from_list([answers]),
        [answers | {"prompt": "Q"}],
        [{name: f"\n\nHuman: Q\n\nAssistant: {GOOD[name]}" for name in ("chosen", "rejected")}],
        datasets.Dataset.from_list([GOOD]).to_iterable_dataset(),
    ]
    records = [prepare_pairs(source, qwen).dataset[0] for source in sources]
    for record in records:
        assert record == records[0]


def test_prepared_pairs_can_be_prepared_again(qwen):
    first = prepare_pairs(good(3), qwen)
    again = prepare_pairs(first.dataset, qwen)
    assert again.summary.layout == "tokenized"
    assert again.dataset[:] == first.dataset[:]


def test_rows_that_cannot_be_used_are_counted_by_reason(qwen, tmp_path):
    bad = [
        GOOD | {"chosen": " "},
        GOOD | {"chosen": "bad"},
        GOOD | {"prompt": "long " * 100},
        {"prompt": "Q", "chosen": "a"},
        GOOD | {"rejected": 3},
        GOOD | {"chosen": ""},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in bad + good(60)))
    prepared = prepare_pairs(path, qwen, max_length=100)
    assert prepared.summary.to_dict() == {
        "source": str(path),
        "layout": "explicit",
        "rows": 66,
        "kept": 60,
        "dropped": {
            "empty answer": {"count": 2, "where": [f"{path}:1", f"{path}:6"]},
            "identical answers": {"count": 1, "where": [f"{path}:2"]},
            "prompt fills max_length": {"count": 1, "where": [f"{path}:3"]},
            "missing `rejected`": {"count": 1, "where": [f"{path}:4"]},
            "`rejected` is not text": {"count": 1, "where": [f"{path}:5"]},
        },
        "boundary": 0,
        "cut": 0,
        "reopened": 0,
    }
    assert prepared.summary.line() == (
        f"{path}: 60 of 66 rows kept (layout `explicit`); dropped 2 × empty answer (pairs.jsonl:1, pairs.jsonl:6), "
        "1 × identical answers (pairs.jsonl:2), 1 × prompt fills max_length (pairs.jsonl:3), "
        "1 × missing `rejected` (pairs.jsonl:4), 1 × `rejected` is not text (pairs.jsonl:5)"
    )
    assert prepared.dataset["prompt"][0] == "Q0"


def test_too_many_dropped_rows_are_an_error_that_names_the_reasons(qwen):
    rows = [GOOD | {"chosen": ""}] * 5 + good(5)
    assert failure(rows, qwen) == (
        "the data set must hold usable preference pairs: at most 10% of its rows may be dropped (`data.max_dropped`), "
        "but 5 of 10 cannot be used, 5 × empty answer (row 1, row 2, row 3, …); correct or remove these rows, or raise "
        "`data.max_dropped` (the first one: row 1: `chosen` must have words, but is empty instead; fill it in or "
        "remove the row)."
    )
    assert prepare_pairs(rows, qwen, max_dropped=0.5).summary.kept == 5


def test_a_source_without_one_usable_row_quotes_the_first_error(qwen):
    assert failure([GOOD | {"chosen": ""}], qwen, max_dropped=1.0) == (
        "row 1: `chosen` must have words, but is empty instead; fill it in or remove the row."
    )
    assert failure([GOOD | {"chosen": ""}] * 2, qwen, max_dropped=1.0) == (
        "the data set must hold usable preference pairs, but 2 of 2 rows cannot be used, 2 × empty answer (row 1, row "
        "2); correct or remove these rows (the first one: row 1: `chosen` must have words, but is empty instead; fill "
        "it in or remove the row)."
    )


def test_a_structural_fault_is_raised_at_once(qwen, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in good(300)) + "{\n")
    message = failure(path, qwen, max_dropped=1.0)
    assert message.startswith(f"{path}:301: the text must be JSON, but is malformed")
    assert failure([{"prompt": "Q", "chosen": "a"}] * 3, qwen).startswith(
        "the data set must have the columns `chosen` and `rejected`, but has `chosen`, `prompt` instead;"
    )


def test_settings_out_of_range_are_refused(qwen):
    assert failure([GOOD], qwen, max_dropped=1.5) == (
        "`data.max_dropped` must be in [0, 1], but is 1.5 instead; it is a share of rows."
    )
    assert failure([GOOD], qwen, num_proc=0) == (
        "`num_proc` must be at least 1, but is 0 instead; leave it out for one process."
    )


def test_what_the_summary_line_says_of_cut_boundary_and_reopened_rows(r1, merging):
    line = prepare_pairs([{"prompt": "ca", "chosen": "bccb", "rejected": "c"}], merging, max_length=4).summary.line()
    assert line == (
        "the data set: 1 of 1 rows kept (layout `explicit`); 1 with an answer cut to `max_length`; 1 with an answer "
        "tokenized by itself at the prompt's boundary"
    )
    line = prepare_pairs([GOOD | {"chosen": "<think>\nhm</think>"}], r1).summary.line()
    assert line.endswith("(layout `explicit`); 1 whose `<think>` the prompt already holds")


def test_nothing_is_written_to_the_datasets_cache(qwen, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    assert prepare_pairs(good(600), qwen).dataset.cache_files == []
    assert not (tmp_path / "cache").exists()


@pytest.fixture(scope="session")
def first_real_pairs(real_data, tmp_path_factory):
    path = tmp_path_factory.mktemp("real") / "pairs.jsonl"
    with gzip.open(real_data / "alpaca_eval_pairs.jsonl.gz", "rt", encoding="utf-8") as lines:
        path.write_text("".join(itertools.islice(lines, 1000)), encoding="utf-8")
    return path


def test_a_thousand_real_pairs_take_seconds_and_lose_nothing(first_real_pairs, qwen):
    started = time.monotonic()
    prepared = prepare_pairs(first_real_pairs, qwen, max_length=100_000)
    assert time.monotonic() - started < 20
    assert prepared.summary.kept == 1000
    assert prepared.dataset.column_names == [*COLUMNS, "strength"]
    for record in prepared.dataset.select(range(100)):
        assert qwen.decode(record["chosen_ids"]) == record["chosen"] + "<|im_end|>"
        assert qwen.decode(record["rejected_ids"]) == record["rejected"] + "<|im_end|>"


def test_every_real_transcript_becomes_a_pair_but_the_four_without_an_answer(real_data, qwen):
    prepared = prepare_pairs(real_data / "hh_harmless_transcripts.jsonl.gz", qwen, max_length=100_000)
    assert prepared.summary.kept == 1796
    assert {reason: rows.count for reason, rows in prepared.summary.dropped.items()} == {"empty answer": 4}


def test_transcripts_without_a_template_keep_their_text(real_data, plain: PreTrainedTokenizerFast):
    path = real_data / "hh_harmless_transcripts.jsonl.gz"
    prepared = prepare_pairs(path, plain, max_length=100_000)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        first = json.loads(next(lines))
    record = prepared.dataset[0]
    assert plain.decode(record["prompt_ids"] + record["chosen_ids"]) == first["chosen"] + "<eos>"
