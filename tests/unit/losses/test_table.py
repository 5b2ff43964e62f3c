import inspect
import re

import pytest
import trl

from betahead.errors import ConfigError
from betahead.losses.table import LOSSES, loss_named

PLACES = {
    "margin": ["z", "beta"],
    "log-ratios": ["chosen", "rejected", "beta"],
    "margins of both models": ["policy_margin", "reference_margin", "beta"],
    "chosen answer": ["chosen_logps", "chosen_tokens"],
}


@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_a_row_names_what_its_function_takes(kind: str) -> None:
    row = LOSSES[kind]
    parameters = inspect.signature(row.loss).parameters.values()
    keywords = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    assert [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD] == PLACES[row.reads]
    expected = ["label_smoothing"] if row.smooths != "no" else []
    assert keywords == [*expected, *row.settings, *(["shift"] if row.has_shift else [])]


@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_a_row_has_a_formula_and_the_source_that_its_function_has(kind: str) -> None:
    row = LOSSES[kind]
    (link,) = re.findall(r"https://\S+$", row.source)
    assert row.formula
    assert link in (row.loss.__doc__ or "")


def test_only_losses_without_a_way_to_be_cut_act_on_the_batch() -> None:
    assert [kind for kind, row in LOSSES.items() if row.on_batch] == ["dr_dpo", "aot", "aot_unpaired", "sft"]
    assert [kind for kind, row in LOSSES.items() if row.per_token] == ["sigmoid_norm", "ipo", "simpo"]
    assert [kind for kind, row in LOSSES.items() if not row.needs_reference] == ["simpo", "sft"]


def test_every_loss_of_trl_is_there_by_its_name() -> None:
    page = trl.DPOConfig.__doc__ or ""
    named = page.partition("loss_type (`list[str]`")[2].partition("If multiple")[0]
    theirs = set(re.findall(r"`'(\w+)'`", named))
    assert len(theirs) == 15
    assert theirs <= set(LOSSES)


def test_an_unknown_loss_is_refused_with_the_names_that_exist() -> None:
    wanted = f"`loss.kind` must be one of {', '.join(sorted(LOSSES))}, but is 'dpo' instead."
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        loss_named("dpo")
