"""What a method is refused with: in a configuration as in Python, and on its card as in the code."""

import pytest

from betahead.beta.table import METHODS
from betahead.errors import ConfigError
from betahead.runs.config import load_config
from betahead.runs.methods import method_named

SMOOTHED = r"`loss\.label_smoothing` must be 0 with `beta\.kind: madpo`"
EVEN = r"`loss\.kind` must be one of .* but is ipo instead, which has 1/β in it"
ONE_MARGIN = r"`loss\.kind` must be losses of one margin with `beta\.kind: beta_dpo`.* simpo, sigmoid instead"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (("beta={kind: madpo}", "loss.label_smoothing=0.1"), SMOOTHED),
        (("beta={kind: beta_dpo}", "loss.kind=[simpo, sigmoid]"), ONE_MARGIN),
        (("beta={kind: kl_controller}", "loss.kind=ipo"), EVEN),
        (("beta={kind: given, push: even}", "loss.kind=[sigmoid, ipo]"), EVEN),
        (("beta={kind: learned, learning: {kind: budget, target_kl: 1, allocation: joint}}", "loss.kind=ipo"), EVEN),
    ],
    ids=["madpo", "beta_dpo", "kl_controller", "given", "budget"],
)
def test_a_combination_that_makes_no_sense_is_refused_in_a_configuration(
    changes: tuple[str, ...], sentence: str
) -> None:
    text = "model: {name: m}\ndata: {train: pairs.jsonl}\nbeta: {kind: fixed}\noutput: runs/x\n"
    with pytest.raises(ConfigError, match=sentence):
        load_config(text, changes)


def refused(name: str) -> str:
    return "; ".join(method_named(name).refuses)


def test_the_card_of_held_out_learning_names_every_refusal_of_its_road() -> None:
    card = refused("heldout")
    for part in ("couple: true", "SGD, Adam and AdamW", "amsgrad", "FSDP and DeepSpeed", "fp16", "less than float32"):
        assert part in card
    assert "reentrant gradient checkpointing" in card and "a single prompt" in card and "loss.kind other than" in card


@pytest.mark.parametrize("name", ["budget", "kl_controller"])
def test_the_card_of_a_rule_that_samples_says_where_it_cannot(name: str) -> None:
    assert "FSDP or DeepSpeed" in refused(name) and "kl_every" in refused(name)
    assert "losses without a reference" in refused(name)


def test_cards_name_the_losses_that_a_rule_cannot_share_and_the_labels_that_it_cannot_smooth() -> None:
    assert {rule.kind for rule in METHODS if "margins differ" in refused(rule.kind)} == {
        *("beta_dpo", "dama", "quantile_controller"),
    }
    assert {
        name for name in ("given", "kl_controller", "budget") if "1/β in them (ipo, sppo_hard" in refused(name)
    } == {
        *("given", "kl_controller", "budget"),
    }
    assert {rule.kind for rule in METHODS if "loss.label_smoothing" in refused(rule.kind)} == {"madpo"}
