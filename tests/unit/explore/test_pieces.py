"""An answer in pieces that can be read."""

import numpy as np
import pytest

from betahead.evaluate.both_models import TokenLogps
from betahead.explore.pieces import pieces_of
from betahead.worlds.small_tokenizer import trained_tokenizer

TEXT = "It is rain, of course.\nSo: 雨 🌧 é"


@pytest.fixture(scope="module")
def tokenizer():
    # So few merges that letters beyond ASCII are spread over tokens.
    return trained_tokenizer(["It is rain, of course. So it is rain."] * 3, vocab_size=300, max_length=128)


def pieces(tokenizer, ids):
    values = np.arange(1, len(ids) + 1, dtype=np.float32)
    return pieces_of(tokenizer, ids, TokenLogps(policy=-values, reference=-2 * values))


def test_the_pieces_together_are_the_answer_and_no_letter_is_broken(tokenizer):
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    found = pieces(tokenizer, ids)
    assert "".join(piece.text for piece in found) == tokenizer.decode(ids) == TEXT
    assert not any("�" in piece.text for piece in found)
    assert {"雨", "🌧", "é"} <= {piece.text.strip() for piece in found}
    assert max(piece.tokens for piece in found) > 1


def test_no_token_and_no_nat_is_lost(tokenizer):
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    found = pieces(tokenizer, ids)
    total = len(ids) * (len(ids) + 1) / 2
    assert sum(piece.tokens for piece in found) == len(ids)
    assert sum(piece.policy for piece in found) == -total
    assert sum(piece.log_ratio for piece in found) == total


def test_the_end_of_an_answer_is_a_piece_of_its_own_even_after_half_a_letter(tokenizer):
    half = tokenizer("雨", add_special_tokens=False)["input_ids"][:-1]
    end = tokenizer.eos_token_id
    *before, last = pieces(tokenizer, [*half, end])
    assert last.special and last.text == tokenizer.eos_token and last.tokens == 1
    assert sum(piece.tokens for piece in before) == len(half) and not any(piece.special for piece in before)
    assert "".join(piece.text for piece in before) == "�" * len("".join(piece.text for piece in before))


def test_an_answer_that_was_cut_in_a_letter_still_shows_where(tokenizer):
    ids = tokenizer("it 雨", add_special_tokens=False)["input_ids"][:-1]
    found = pieces(tokenizer, ids)
    assert "".join(piece.text for piece in found) == tokenizer.decode(ids)
    assert sum(piece.tokens for piece in found) == len(ids)
