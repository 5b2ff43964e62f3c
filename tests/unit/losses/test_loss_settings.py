import re
from typing import Any

import pytest

from betahead.errors import ConfigError
from betahead.losses.objective import objective_of

MESSAGES: list[tuple[str | list[str], dict[str, Any], str]] = [
    *(
        ("sigmoid", {"label_smoothing": e}, f"`loss.label_smoothing` must be in [0, 0.5), but is {e} instead.")
        for e in (-0.1, 0.5, 1.0, float("nan"), True)
    ),
    *(
        (
            kind,
            {"label_smoothing": 0.1},
            f"`loss.label_smoothing` must be 0 with `loss.kind` {kind}, but is 0.1 instead; use sigmoid or robust to "
            "smooth labels.",
        )
        for kind in ("hinge", "ipo", "nca_pair")
    ),
    (
        ["sigmoid", "exo_pair"],
        {},
        "`loss.label_smoothing` must be above 0 with `loss.kind` exo_pair, but is 0.0 instead; its paper recommends "
        "1e-3.",
    ),
    ("discopop", {"discopop_tau": 0.0}, "`loss.discopop_tau` must be a positive number, but is 0.0 instead."),
    (
        "discopop",
        {"discopop_tau": 1e-30},
        "`loss.discopop_tau` must be a positive number and at least 1e-12, but is 1e-30 instead.",
    ),
    (
        "dr_dpo",
        {"dr_dpo_beta": 1e30},
        "`loss.dr_dpo_beta` must be a positive number and at most 1e12 in size, but is 1e+30 instead.",
    ),
    ("simpo", {"simpo_gamma": -1.0}, "`loss.simpo_gamma` must be a number of at least 0, but is -1.0 instead."),
    ("dr_dpo", {"dr_dpo_beta": 0}, "`loss.dr_dpo_beta` must be a positive number, but is 0 instead."),
    (
        ["sigmoid", "hinge"],
        {"simpo_gamma": 1.0},
        "`loss.simpo_gamma` must be left out with `loss.kind` sigmoid and hinge, which does not read it, but is 1.0 "
        "instead; it belongs to simpo.",
    ),
    ("sigmoid", {"ld_alpha": 1.5}, "`loss.ld_alpha` must be in [0, 1], but is 1.5 instead."),
    (
        "sft",
        {"ld_alpha": 0.5},
        "`loss.ld_alpha` must be left out with `loss.kind` sft, which compares no lengths, but is 0.5 instead; remove "
        "it.",
    ),
    (
        "sigmoid",
        {"f_divergence_type": "kl"},
        "`loss.f_divergence_type` must be one of reverse_kl, forward_kl, js_divergence, alpha_divergence, but is 'kl' "
        "instead.",
    ),
    *(
        (
            kinds,
            {"f_divergence_type": "forward_kl"},
            f"`loss.f_divergence_type` must be reverse_kl with `loss.kind` {named}, but is forward_kl instead; another "
            "divergence has a meaning for sigmoid, sigmoid_norm, robust, hinge, ipo, exo_pair, discopop, dr_dpo.",
        )
        for kinds, named in ((["sigmoid", "apo_zero"], "apo_zero"), ("simpo", "simpo"), ("sft", "sft"), ("aot", "aot"))
    ),
    (
        "sigmoid",
        {"f_alpha_divergence_coef": 0.3},
        "`loss.f_alpha_divergence_coef` must be left out with `loss.f_divergence_type` reverse_kl, but is 0.3 instead; "
        "it belongs to alpha_divergence.",
    ),
]


@pytest.mark.parametrize(("kind", "settings", "message"), MESSAGES, ids=str)
def test_a_setting_that_cannot_be_used_is_refused_in_one_sentence(
    kind: str | list[str], settings: dict[str, Any], message: str, unchecked: None
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        objective_of(kind, **settings)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (["sigmoid", "hinge"], {"label_smoothing": 0.1}),
        (["simpo", "sft"], {"simpo_gamma": 0.0}),
        (["sigmoid", "sft"], {"f_divergence_type": "js_divergence", "ld_alpha": 0.0}),
        ("ipo", {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": -1.0}),
    ],
    ids=str,
)
def test_a_setting_is_accepted_where_one_of_the_losses_reads_it(
    kind: str | list[str], settings: dict[str, Any]
) -> None:
    known = objective_of(kind, **settings).settings
    assert {name: getattr(known, name) for name in settings} == settings
