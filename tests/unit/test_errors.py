"""Sentences can be shown anywhere, whatever foreign text stands in them."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betahead.data.rows import RowError
from betahead.errors import CacheError, ConfigError, DataError, printable


@pytest.mark.parametrize("kind", [ConfigError, DataError, CacheError])
def test_a_sentence_is_one_printable_line(kind):
    assert str(kind("a\x1b[2J\nb\ud800 é 東 \u202e")) == r"a\x1b[2J\nb\ud800 é 東 \u202e"


@given(st.text(st.characters(exclude_categories=())))
def test_what_is_printable_can_be_encoded_and_stays_as_it_is(text):
    shown = printable(text)
    assert shown.isprintable() and shown.encode().decode() == shown
    assert printable(shown) == shown


def test_an_error_of_a_row_survives_the_way_from_another_process():
    error = pickle.loads(pickle.dumps(RowError("empty", "a\nb:1", "`prompt` must have words.")))
    assert str(error) == r"a\nb:1: `prompt` must have words."
    assert (error.reason, error.where) == ("empty", "a\nb:1")
