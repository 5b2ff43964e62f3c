"""What the page answers to typing and pressing, without a server."""

import importlib.metadata
import re
import shutil
from dataclasses import replace

import pytest

from betahead.errors import ConfigError
from betahead.explore.app import Page, check_gradio
from betahead.explore.cards import answers_card, numbers_card
from betahead.explore.explorer import Answer, Explorer
from betahead.explore.pieces import Piece
from betahead.runs.opened import open_run

PROMPT = "What is rain?"


@pytest.fixture
def page_of(explorer_of):
    return lambda name: Page(explorer_of(name))


def numbers(card):
    """Value by name."""
    found = re.findall(r'<dt>(.*?)</dt><dd(?: data-value="(.*?)")?>(.*?)</dd>', card)
    return {name: (float(value) if value else None, shown) for name, value, shown in found}


def test_the_numbers_are_those_of_the_view(page_of):
    page = page_of("learned")
    view = page.explorer.view(PROMPT)
    card, trail, history = page.looked(PROMPT, ())
    assert numbers(card) == {
        "log PPL": (view.log_ppl, f"{view.log_ppl:.3f}"),
        "f(x)": (view.f, f"{view.f:.3f}"),
        "β(x)": (view.beta, f"{view.beta:.4g}"),
    }
    assert f"pushes β {view.pushed} from" in card
    assert "within [0.01, 1]" in card and f"over {view.tokens} tokens" in card
    assert trail == (view,) and PROMPT in history


def test_the_ranks_are_those_of_the_view_and_the_drawings_are_of_the_training_prompts(page_of):
    page = page_of("learned")
    view = page.explorer.view(PROMPT)
    card = page.looked(PROMPT, ())[0]
    assert (
        f"Of the 19 training prompts sampled at the end of the run, {view.log_ppl_training_quantile:.0%} have a "
        f"smaller log PPL and {view.beta_training_quantile:.0%} have a smaller β. Of the 13 held-out prompts, "
        f"{view.log_ppl_quantile:.0%} have a smaller log PPL and {view.beta_quantile:.0%} have a smaller β." in card
    )
    assert re.findall("<figcaption>(.*?)</figcaption>", card) == [
        "log PPL of the training prompts (nats per token)",
        "β of the training prompts (logarithmic axis)",
    ]


def test_a_run_that_kept_no_training_prompts_is_drawn_with_its_held_out_ones(page_of):
    explorer = page_of("learned").explorer
    view = replace(explorer.view(PROMPT), log_ppl_training_quantile=None, beta_training_quantile=None)
    card = numbers_card(view, explorer.opened.rule, explorer.inspector.held_out, None)
    assert "Of the 13 held-out prompts" in card and "training prompts" not in card
    assert "β of the held-out prompts" in card


def test_a_prompt_without_a_counted_token_and_a_beta_at_its_bound_are_said(page_of):
    explorer = page_of("learned").explorer
    view = replace(explorer.view(PROMPT), log_ppl=None, log_ppl_quantile=None, log_ppl_training_quantile=None)
    card = numbers_card(replace(view, at_bound=True), explorer.opened.rule, explorer.inspector.held_out, None)
    assert numbers(card)["log PPL"] == (None, "–")
    assert "none of which counts" in card and "held by a bound of [0.01, 1]" in card
    assert "log PPL of the" not in card


def test_editing_moves_beta_and_the_trail_keeps_what_was_there(page_of):
    page = page_of("learned")
    _, trail, _ = page.looked(PROMPT, ())
    _, trail, history = page.looked("Tell me of tax law.", trail)
    assert [view.prompt for view in trail] == [PROMPT, "Tell me of tax law."]
    assert trail[0].beta != trail[1].beta and "<svg" in history


def test_an_empty_or_refused_prompt_leaves_the_trail_and_says_why(page_of):
    page = page_of("learned")
    trail = page.looked(PROMPT, ())[1]
    card, same, history = page.looked("  \n", trail)
    assert "Type a prompt" in card and same is trail and PROMPT in history
    card, same, _ = page.looked("<b> " * 60, trail)
    assert 'class="told mistake"' in card and "the prompt must be shorter" in card and same is trail


def test_the_answers_stand_side_by_side_with_every_token_coloured_and_in_a_table(page_of):
    card = page_of("learned").answered(PROMPT, 7.0, 1.0, 0.0)
    assert re.findall("<h3>(.*?)</h3>", card) == ["the policy&#x27;s answer", "the reference&#x27;s answer"]
    spans = re.findall(r"<span style=\"background:rgb\(.*?\)\" title=\"([−+.\d]+) nats: policy (\S+), ref", card)
    assert 2 <= len(spans) <= 14
    assert card.count("<tr>") == len(spans) + 2  # a row for each piece, a head for each model
    assert "per token" in card and "nats</b>" in card


def test_what_a_model_says_is_text(page_of):
    said = Piece(text="<script>x</script>\nso", tokens=3, policy=-1.0, reference=-2.5, special=False)
    end = Piece(text="<|im_end|>", tokens=1, policy=-0.5, reference=-0.5, special=True)
    card = answers_card(*(Answer(by=by, pieces=(said, end), cut=False) for by in ("policy", "reference")))
    assert "<script" not in card
    assert "&lt;script&gt;x&lt;/script&gt;↵\n" in card
    assert 'class="special"' in card and "&lt;|im_end|&gt;" in card
    assert "4 tokens, ended by itself; log-ratio of the whole answer +1.50 nats" in card


def test_an_answer_that_cannot_be_given_is_one_sentence(page_of):
    card = page_of("learned").answered("", 7.0, 1.0, 0.0)
    assert card.startswith('<p class="told mistake"') and "typed: " in card


def test_a_fixed_beta_says_that_no_prompt_moves_it(page_of):
    page = page_of("fixed")
    assert "one number for all prompts" in page.header
    card = page.looked(PROMPT, ())[0]
    assert numbers(card)["β(x)"][1] == "0.3" and numbers(card)["f(x)"] == (None, "–")
    assert "no bounds" in card and "this rule has none" in card and "β of the" not in card


def test_a_beta_of_the_batch_says_that_a_prompt_has_none(page_of):
    page = page_of("batch")
    assert "belongs to the batch, so that a prompt alone has none" in page.header
    assert page.looked(PROMPT, ()) == ("", (), "")
    assert "nats</b>" in page.answered(PROMPT, 3.0, 1.0, 0.0)


def test_the_learned_rule_needs_no_word_of_warning(page_of):
    page = page_of("learned")
    assert "told" not in page.header and "<code>learned</code>" in page.header


def test_a_run_whose_snapshots_are_gone_says_so_where_the_numbers_would_be(explorer_of, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(explorer_of("learned").opened.folder.path, folder)
    (folder / "prompts.parquet").unlink()
    card = Page(Explorer(open_run(folder, device="cpu"))).looked(PROMPT, ())[0]
    assert 'class="told mistake"' in card and "the run must hold prompts.parquet" in card


@pytest.mark.parametrize(("version", "found"), [(None, "is not there"), ("5.49.1", "is 5.49.1 instead")])
def test_without_gradio_or_with_an_old_one_it_is_said_how_to_get_it(monkeypatch, version, found):
    def installed(package):
        if version is None:
            raise importlib.metadata.PackageNotFoundError(package)
        return version

    monkeypatch.setattr(importlib.metadata, "version", installed)
    with pytest.raises(ConfigError) as caught:
        check_gradio()
    assert str(caught.value) == (
        f"`gradio` must be installed, 6 or newer, for `betahead explore`, but {found}; pip install 'betahead[explore]'."
    )
