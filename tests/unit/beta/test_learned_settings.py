import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from betahead.beta.head import BetaHead
from betahead.beta.learned import LearnedBeta
from betahead.errors import ConfigError
from betahead.types import PromptFeatures

MESSAGES: list[tuple[dict[str, Any], str]] = [
    ({"net": "conv"}, "`beta.net` must be one of linear, mlp, transformer, but is 'conv' instead."),
    ({"form": "free"}, "`beta.form` must be one of banded, direct, but is 'free' instead."),
    ({"ppl_from": "me"}, "`beta.ppl_from` must be one of policy, reference, but is 'me' instead."),
    ({"ppl_tokens": "some"}, "`beta.ppl_tokens` must be one of all, content, but is 'some' instead."),
    (
        {"learning": "slow"},
        "`beta.learning.kind` must be one of joint, perspective, heldout, budget, none, but is 'slow' instead.",
    ),
    (
        {"form": "direct", "max_correction": 0.5},
        "`beta.max_correction` applies only with form: banded, but is 0.5 here; remove it.",
    ),
    (
        {"form": "direct", "ppl_exponent": -1},
        "`beta.ppl_exponent` applies only with form: banded, but is -1 here; remove it.",
    ),
    (
        {"learning": "perspective", "prior_weight": 0.1},
        "`beta.prior_weight` applies only with learning.kind: joint, but is 0.1 here; remove it.",
    ),
    (
        {"learning": "none", "prior_on": "each"},
        "`beta.prior_on` applies only with learning.kind: joint, but is 'each' here; remove it.",
    ),
    (
        {"regulariser": "linear"},
        "`beta.learning.regulariser` applies only with learning.kind: perspective, but is 'linear' here; remove it.",
    ),
    (
        {"rho": 0.1},
        "`beta.learning.rho` applies only with learning.kind: perspective, but is 0.1 here; remove it.",
    ),
    (
        {"learning": "none", "learning_rate": 1e-3},
        "`beta.learning_rate` applies only with a learning.kind that learns, but is 0.001 here; remove it.",
    ),
    (
        {"learning": "none", "ppl_exponent": "learned"},
        "`beta.ppl_exponent` must be a number with learning.kind: none, but is 'learned' instead.",
    ),
    (
        {"couple": True, "ppl_from": "reference", "max_correction": 0.0},
        "`beta.couple` has no effect with a beta that follows nothing of the policy, but is True here; remove it.",
    ),
    *(
        (
            {"couple": True, "learning": learning, **settings},
            "`beta.couple` has no effect with a beta that follows nothing of the policy, but is True here; remove it.",
        )
        for learning in ("none", {"kind": "budget", "target_kl": 1.0, "allocation": "none"})
        for settings in ({"ppl_exponent": 0.0}, {"ppl_from": "reference"}, {"form": "direct"})
    ),
    *(
        (
            {"learning": "none", "form": "direct", key: value},
            f"`beta.{key}` has no effect with form: direct and a net that nothing trains, which reads no perplexity, "
            f"but is {value!r} here; remove it.",
        )
        for key, value in (("ppl_from", "reference"), ("ppl_tokens", "content"))
    ),
    ({"initial_beta": 0.0}, "`beta.initial_beta` must be a positive number, but is 0.0 instead."),
    ({"initial_beta": -1}, "`beta.initial_beta` must be a positive number, but is -1 instead."),
    ({"initial_beta": math.nan}, "`beta.initial_beta` must be a positive number, but is nan instead."),
    ({"initial_beta": math.inf}, "`beta.initial_beta` must be a positive number, but is inf instead."),
    ({"max_correction": 1.5}, "`beta.max_correction` must be in [0, 1), but is 1.5 instead."),
    ({"max_correction": 1.0}, "`beta.max_correction` must be in [0, 1), but is 1.0 instead."),
    ({"max_correction": -0.1}, "`beta.max_correction` must be in [0, 1), but is -0.1 instead."),
    ({"prior_weight": -1.0}, "`beta.prior_weight` must be at least 0, but is -1.0 instead."),
    ({"prior_weight": math.inf}, "`beta.prior_weight` must be at least 0, but is inf instead."),
    ({"learning_rate": 0.0}, "`beta.learning_rate` must be a positive number, but is 0.0 instead."),
    ({"ppl_exponent": math.inf}, "`beta.ppl_exponent` must be a finite number or 'learned', but is inf instead."),
    ({"ppl_exponent": "free"}, "`beta.ppl_exponent` must be a finite number or 'learned', but is 'free' instead."),
    ({"prior_on": "none"}, "`beta.prior_on` must be one of level, each, but is 'none' instead."),
    (
        {"learning": "perspective", "regulariser": "cubic"},
        "`beta.learning.regulariser` must be one of quadratic, linear, but is 'cubic' instead.",
    ),
    (
        {"learning": "perspective", "regulariser": "linear", "rho": 0.7},
        "`beta.learning.rho` must be in (0, log 2) with the linear regulariser, but is 0.7 instead.",
    ),
    ({"learning": "perspective", "rho": 0.0}, "`beta.learning.rho` must be a positive number, but is 0.0 instead."),
    (
        {"bounds": (0.2, 1.0)},
        "`beta.bounds` must be two numbers with 0 < low <= initial_beta <= high, but are [0.2, 1.0] around 0.1 "
        "instead.",
    ),
    (
        {"bounds": (0.0, 1.0)},
        "`beta.bounds` must be two numbers with 0 < low <= initial_beta <= high, but are [0.0, 1.0] around 0.1 "
        "instead.",
    ),
    (
        {"bounds": (1e-30, 1.0)},
        "`beta.bounds` must be from 1e-12 to 1e12, but are [1e-30, 1.0] instead.",
    ),
    (
        {"initial_beta": 1e-30},
        "`beta.initial_beta` must be a positive number and at least 1e-12, but is 1e-30 instead.",
    ),
    (
        {"initial_beta": 1e30},
        "`beta.initial_beta` must be a positive number and at most 1e12 in size, but is 1e+30 instead.",
    ),
    (
        {"learning": "perspective", "initial_beta": 50.0},
        "`beta.bounds` must be two numbers with 0 < low <= initial_beta <= high, but are [0.001, 30.0] around 50.0 "
        "instead.",
    ),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("settings", "message"), MESSAGES, ids=[str(settings) for settings, _ in MESSAGES])
def test_a_setting_that_cannot_be_used_is_refused_in_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        LearnedBeta(**settings)
    assert str(error.value) == message


NO_EFFECT: list[dict[str, Any]] = [
    {"couple": True, "max_correction": 0.0, "ppl_exponent": 0.0},
    {"ppl_from": "reference", "ppl_exponent": 0.0},
    {"ppl_tokens": "content", "ppl_exponent": 0.0},
]


@pytest.mark.parametrize("settings", NO_EFFECT, ids=str)
def test_a_setting_that_the_others_leave_without_effect_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        LearnedBeta(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"learning": "none"},
        {"learning": "none", "max_correction": 0.0},
        {"learning": "perspective", "ppl_from": "reference"},
        {"learning": "perspective", "ppl_exponent": 0.0},
        {"form": "direct", "ppl_from": "reference"},
    ],
    ids=str,
)
def test_coupling_is_accepted_where_gradient_reaches_the_policy(settings: dict[str, Any]) -> None:
    rule = LearnedBeta(couple=True, **settings)
    rule.build(4, seed=0)
    with torch.no_grad():  # of a trained head: a new one's last layer is zero
        for parameter in rule.head.parameters():
            parameter.add_(0.1)
    hidden = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    log_ppl = torch.tensor([0.5, 1.0, 2.0], requires_grad=rule.ppl_from == "policy")
    features = PromptFeatures(pairs=3, last_hidden=hidden, log_ppl=log_ppl, has_ppl=torch.ones(3, dtype=torch.bool))
    rule.explain(features).beta.sum().backward()
    read = [hidden] if rule.mode.trains else [log_ppl]
    assert all(leaf.grad is not None and bool(leaf.grad.abs().max() > 0) for leaf in read)


def test_defaults_follow_the_form_and_the_kind_of_learning() -> None:
    rule = LearnedBeta(initial_beta=0.2)
    joint = rule.resolved
    assert (joint.form, joint.max_correction, joint.ppl_exponent) == ("banded", 0.5, 1.0)
    assert joint.bounds == pytest.approx((0.02, 2.0))
    assert (joint.learning_rate, joint.couple) == (1e-3, False)
    assert rule.mode.settings == {"prior_weight": 0.1, "prior_on": "level"}
    perspective = LearnedBeta(learning="perspective")
    assert perspective.bounds == (1e-3, 30.0)
    assert perspective.mode.settings == {"regulariser": "quadratic", "rho": 0.1}


banded = st.fixed_dictionaries(
    {
        "form": st.just("banded"),
        "max_correction": st.none() | st.floats(0.01, 0.99),
        "ppl_exponent": st.none() | st.sampled_from([1.0, -1.0, 0.5, "learned"]),
    }
)
joint = st.fixed_dictionaries(
    {
        "learning": st.just("joint"),
        "prior_weight": st.none() | st.floats(0.01, 10),
        "prior_on": st.sampled_from([None, "level", "each"]),
        "learning_rate": st.none() | st.floats(1e-6, 1),
    }
)
perspective = st.fixed_dictionaries(
    {
        "learning": st.just("perspective"),
        "regulariser": st.sampled_from([None, "quadratic", "linear"]),
        "rho": st.none() | st.floats(0.01, 0.69),
    }
)
common = st.fixed_dictionaries(
    {
        "net": st.sampled_from(["linear", "mlp", "transformer"]),
        "initial_beta": st.floats(0.01, 10),
        "ppl_from": st.sampled_from(["policy", "reference"]),
        "ppl_tokens": st.sampled_from(["all", "content"]),
        "bounds": st.none() | st.tuples(st.floats(1e-4, 0.01), st.floats(10, 1e4)),
        "couple": st.booleans(),
    }
)


@given(common, banded | st.just({"form": "direct"}), joint | perspective)
def test_the_settings_of_a_rule_make_the_same_rule(
    shared: dict[str, Any], form: dict[str, Any], learning: dict[str, Any]
) -> None:
    rule = LearnedBeta(**shared, **form, **learning)
    again = LearnedBeta(**rule.settings)
    assert again.settings == rule.settings
    assert again.resolved == rule.resolved
    assert (again.couple, again.ppl_from, again.ppl_tokens) == (rule.couple, rule.ppl_from, rule.ppl_tokens)
    assert (again.bounds, again.learning_rate) == (rule.bounds, rule.learning_rate)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"initial_beta": "0.1"}, "initial_beta"),
        ({"initial_beta": True}, "initial_beta"),
        ({"bounds": 5}, "bounds"),
        ({"bounds": (1, 2, 3)}, "bounds"),
        ({"bounds": ("a", "b")}, "bounds"),
        ({"couple": "yes"}, "couple"),
        ({"learning": "perspective", "rho": "a"}, "learning.rho"),
    ],
)
def test_a_value_of_another_type_is_a_sentence_too(settings, named, unchecked) -> None:
    with pytest.raises(ConfigError, match=f"^`beta.{named}` must be"):
        LearnedBeta(**settings)


@pytest.mark.parametrize("settings", [{"net": "foo"}, {"form": "zzz"}, {"initial_beta": -1}, {"max_correction": 2}])
def test_the_head_alone_refuses_what_the_rule_refuses(settings, unchecked) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=f"^`beta.{name}` must be"):
        BetaHead(16, **settings)
