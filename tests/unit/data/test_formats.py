import pytest

from betahead.data.formats import check_columns, checked_layout, detected_layout, pair_from_row
from betahead.data.rows import Row, RowError
from betahead.errors import ConfigError, DataError


def user(text):
    return {"role": "user", "content": text}


def system(text):
    return {"role": "system", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


LAYOUT_ROWS = {
    "explicit": {"prompt": "Q", "chosen": "good", "rejected": "bad"},
    "chat": {"prompt": [user("Q")], "chosen": [assistant("good")], "rejected": [assistant("bad")]},
    "ultrafeedback": {
        "prompt": "Q",
        "chosen": [user("Q"), assistant("good")],
        "rejected": [user("Q"), assistant("bad")],
    },
    "hh": {"chosen": "\n\nHuman: Q\n\nAssistant: good", "rejected": "\n\nHuman: Q\n\nAssistant: bad"},
}
IMPLICIT_CHAT = {
    "chosen": [system("S"), user("Q"), assistant("A"), user("R"), assistant("good")],
    "rejected": [system("S"), user("Q"), assistant("A"), user("R"), assistant("bad")],
}


def row(values):
    return Row(values=values, where="pairs.jsonl:17")


def pair(values, layout=None):
    one = row(values)
    return pair_from_row(one, layout or detected_layout([one], "pairs.jsonl"))


def failure(values, layout=None):
    with pytest.raises(RowError) as caught:
        pair(values, layout)
    return str(caught.value)


@pytest.mark.parametrize("layout", LAYOUT_ROWS)
def test_each_layout_is_detected_and_gives_the_same_pair(layout):
    one = row(LAYOUT_ROWS[layout])
    assert detected_layout([one], "pairs.jsonl") == layout
    read = pair_from_row(one, layout)
    assert read.prompt in ("Q", (user("Q"),))
    assert (read.chosen, read.rejected, read.where) == ("good", "bad", "pairs.jsonl:17")


def test_conversations_without_a_prompt_column_share_their_prefix():
    read = pair(IMPLICIT_CHAT)
    assert read.prompt == (system("S"), user("Q"), assistant("A"), user("R"))
    assert (read.chosen, read.rejected) == ("good", "bad")


def test_ultrafeedback_may_begin_with_a_system_message_or_hold_the_answer_alone():
    with_system = {
        "prompt": "Q",
        "chosen": [system("S"), user("Q"), assistant("good")],
        "rejected": [system("S"), user("Q"), assistant("bad")],
    }
    assert pair(with_system).prompt == (system("S"), user("Q"))
    alone = {"prompt": "Q", "chosen": [assistant("good")], "rejected": [assistant("bad")]}
    assert pair(alone).prompt == (user("Q"),)


def test_chat_answers_may_be_text():
    assert pair({"prompt": [user("Q")], "chosen": "good", "rejected": "bad"}).chosen == "good"


def test_domain_and_strength_are_read():
    read = pair(LAYOUT_ROWS["explicit"] | {"domain": "koala", "strength": 0.5})
    assert (read.domain, read.columns) == ("koala", {"strength": 0.5})
    assert pair(LAYOUT_ROWS["explicit"] | {"strength": "0.25", "reward_margin": -2}).columns == {
        "strength": 0.25,
        "reward_margin": -2.0,
    }
    assert pair(LAYOUT_ROWS["explicit"] | {"domain": None, "strength": None}).columns == {}


def test_an_hh_prompt_keeps_its_own_text_form():
    assert pair(LAYOUT_ROWS["hh"]).transcript == "\n\nHuman: Q\n\nAssistant:"


CASES = [
    (
        {"prompt": " \n", "chosen": "a", "rejected": "b"},
        "`prompt` must have words, but is empty instead; fill it in or remove the row.",
    ),
    (
        {"prompt": "Q", "chosen": "", "rejected": "b"},
        "`chosen` must have words, but is empty instead; fill it in or remove the row.",
    ),
    (
        {"prompt": "Q", "chosen": "a", "rejected": " "},
        "`rejected` must have words, but is empty instead; fill it in or remove the row.",
    ),
    (
        {"prompt": "Q", "chosen": "same", "rejected": "same"},
        "`chosen` and `rejected` must differ, but both are 'same' (str) instead; remove the row.",
    ),
    (
        {"prompt": "Q", "chosen": "a", "rejected": 3},
        "`rejected` must be text, but is 3 (int) instead; write it as a string.",
    ),
    (
        {"prompt": "Q", "chosen": "a\ud800", "rejected": "b"},
        "`chosen` must be valid Unicode, but holds \\ud800, half of a surrogate pair, instead; remove that character.",
    ),
    (
        {"prompt": "Q", "chosen": "a", "rejected": "b", "strength": "high"},
        "`strength` must be a finite number, but is 'high' (str) instead; correct it or remove the column.",
    ),
    (
        {"prompt": "Q", "chosen": "a", "rejected": "b", "strength": True},
        "`strength` must be a finite number, but is True (bool) instead; correct it or remove the column.",
    ),
    (
        {"prompt": "Q", "chosen": "a", "rejected": "b", "domain": 7},
        "`domain` must be text, but is 7 (int) instead; write it as a string.",
    ),
    (
        {"prompt": [user("Q"), assistant("A")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
        "`prompt` must end with a message of the user, but its last message is of 'assistant' instead; an answer "
        "belongs into `chosen` and `rejected` whole.",
    ),
    (
        {"prompt": [user("Q")], "chosen": [user("a")], "rejected": [assistant("b")]},
        "`chosen` must end with a message of the assistant, but its last message is of 'user' instead; remove what "
        "follows the answer.",
    ),
    (
        {"prompt": [user("Q")], "chosen": [], "rejected": [assistant("b")]},
        "`chosen` must end with a message of the assistant, but its last message is of nothing instead; remove what "
        "follows the answer.",
    ),
    (
        {"chosen": [user("Q"), assistant("a"), user("R"), assistant("c")], "rejected": [user("Q"), assistant("b")]},
        "`chosen` must be one assistant message after what both conversations share, but is 3 messages instead; only a "
        "pair of answers to the same prompt can be used, so remove the row.",
    ),
    (
        {"prompt": "Other", "chosen": [user("Q"), assistant("a")], "rejected": [user("Q"), assistant("b")]},
        "`prompt` must be the first user message of `chosen`, but is 'Other' (str) instead of 'Q' (str); remove the "
        "`prompt` column if the conversations are complete.",
    ),
    (
        {"prompt": [{"role": "user"}], "chosen": [assistant("a")], "rejected": [assistant("b")]},
        "`prompt[0]` must have `role` and `content`, but is {'role': 'user'} (dict) instead; write it as "
        '[{"role": "user", "content": "…"}, …].',
    ),
    (
        {"prompt": [user("Q")], "chosen": [assistant("a")], "rejected": {"text": "b"}},
        "`rejected` must be a list of messages, but is {'text': 'b'} (dict) instead; write it as "
        '[{"role": "user", "content": "…"}, …].',
    ),
]


@pytest.mark.parametrize(("values", "sentence"), CASES)
def test_a_row_that_cannot_be_used_says_why_and_where(values, sentence):
    assert failure(values) == f"pairs.jsonl:17: {sentence}"


def test_a_missing_value_names_what_the_row_has():
    assert failure({"prompt": "Q", "chosen": "a", "rejected": None}, "explicit") == (
        "pairs.jsonl:17: `rejected` must be given, but the row has `prompt`, `chosen` only; add the column or choose "
        "another `data.layout`."
    )


def test_columns_of_no_layout_are_named():
    with pytest.raises(DataError) as caught:
        detected_layout([row({"question": "Q", "answer": "a"})], "pairs.jsonl")
    assert str(caught.value) == (
        "pairs.jsonl must have the columns `chosen` and `rejected`, but has `answer`, `question` instead; rename its "
        "columns (a `prompt` column holds the prompt, unless `chosen` and `rejected` are whole conversations)."
    )


def test_texts_without_a_prompt_are_refused():
    with pytest.raises(DataError) as caught:
        detected_layout([row({"chosen": "a", "rejected": "b"})], "pairs.jsonl")
    assert str(caught.value) == (
        "pairs.jsonl must have a column `prompt`, but has `chosen`, `rejected` instead, and `chosen` is neither a list "
        "of messages nor a transcript that begins with `Human:`; add the column."
    )


def test_values_of_no_layout_are_shown():
    with pytest.raises(DataError) as caught:
        detected_layout([row({"prompt": 1, "chosen": "a", "rejected": "b"})], "pairs.jsonl")
    assert str(caught.value) == (
        "pairs.jsonl:17: `prompt`, `chosen` and `rejected` must be text or lists of messages, but `prompt` is 1 (int) "
        "and `chosen` is 'a' (str) instead; see `data.layout` for what can be read."
    )


def test_a_column_that_is_missing_everywhere_is_refused_at_once():
    rows = [row({"chosen": "a", "rejected": "b"})]
    with pytest.raises(DataError) as caught:
        check_columns(rows, "explicit", "pairs.jsonl")
    assert str(caught.value) == (
        "pairs.jsonl must have a column `prompt` (layout `explicit`), but has `chosen`, `rejected` instead; rename the "
        "column or choose another `data.layout`."
    )


def test_an_unknown_layout_is_refused():
    assert checked_layout("auto") is None
    with pytest.raises(ConfigError) as caught:
        checked_layout("alpaca")
    assert str(caught.value) == (
        "`data.layout` must be one of `auto`, `explicit`, `chat`, `ultrafeedback`, `hh`, `tokenized`, but is 'alpaca' "
        "instead."
    )


@pytest.mark.parametrize("name", ["tools", "images", "chat_template_kwargs"])
def test_a_column_that_would_silently_be_left_out_of_the_prompt_is_refused(name):
    rows = [Row(values={"prompt": "a", "chosen": "b", "rejected": "c", name: ["x"]}, where="f:1")]
    with pytest.raises(DataError, match=f"^f must hold text alone, but has a column `{name}`, which would be left out"):
        check_columns(rows, "explicit", "f")
    without = [Row(values={"prompt": "a", "chosen": "b", "rejected": "c", name: None}, where="f:1")]
    check_columns(without, "explicit", "f")


@pytest.mark.parametrize("name", ["ref_chosen_logps", "ref_rejected_logps", "ref_log_ppl"])
def test_scores_that_belong_to_tokens_are_refused_beside_texts_and_taken_with_token_ids(name):
    texts = [Row(values={"prompt": "a", "chosen": "b", "rejected": "c", name: -1.0}, where="f:1")]
    with pytest.raises(DataError) as refused:
        check_columns(texts, "explicit", "f")
    assert str(refused.value) == (
        f"f must not have a column `{name}` beside texts, because it belongs to tokens; remove it, or give the tokens "
        "with it (`prompt_ids`, `chosen_ids`, `rejected_ids`)."
    )
    ids = {"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3], name: -1.0}
    check_columns([Row(values=ids, where="f:1")], "tokenized", "f")
