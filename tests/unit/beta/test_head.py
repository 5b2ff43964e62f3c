import math
from dataclasses import replace

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from betahead.beta.head import BetaHead
from betahead.beta.rule import Need

log_ppls = st.lists(st.floats(0.02, 12), min_size=1, max_size=8)


@given(log_ppls, st.sampled_from([1.0, -1.0, 0.0, 0.4, 3.0]), st.floats(0.01, 5))
def test_the_level_is_the_initial_beta_at_the_geometric_mean_for_any_exponent(
    sample: list[float], exponent: float, initial: float
) -> None:
    head = BetaHead(tiny.HIDDEN, initial_beta=initial, ppl_exponent=exponent, bounds=(initial / 1e6, initial * 1e6))
    head.calibrate(torch.tensor(sample))
    g = math.exp(math.fsum(math.log(v) for v in torch.tensor(sample).tolist()) / len(sample))
    assert head.log_ppl_scale.item() == pytest.approx(g, rel=1e-6)
    at_mean = replace(tiny.features(2), log_ppl=torch.full((2,), head.log_ppl_scale.item()))
    assert head(at_mean).beta.tolist() == pytest.approx([initial] * 2, rel=1e-5)


@given(log_ppls, st.sampled_from([1.0, -1.0, 0.5, "learned"]), st.floats(-0.5, 0.5), st.integers(0, 100))
def test_the_reported_weight_reproduces_the_published_formula(
    sample: list[float], exponent: float | str, level: float, seed: int
) -> None:
    head = BetaHead(tiny.HIDDEN, ppl_exponent=exponent, bounds=(1e-9, 1e9))
    head.calibrate(torch.tensor(sample))
    tiny.scattered(head, 0.3, seed)
    with torch.no_grad():
        head.log_level.fill_(level)
    features = tiny.features(4, seed)
    out = head(features)
    p = head.exponent.item() if exponent == "learned" else float(exponent)
    assert features.log_ppl is not None
    published = head.weight * features.log_ppl**p * out.correction
    assert head.weight > 0
    torch.testing.assert_close(published, out.beta, rtol=1e-4, atol=0)


@given(st.integers(0, 100), st.floats(0, 0.99))
def test_the_correction_stays_in_its_band(seed: int, size: float) -> None:
    head = BetaHead(tiny.HIDDEN, max_correction=size)
    tiny.scattered(head, 2.0, seed)
    correction = head(tiny.features(5, seed)).correction
    assert ((correction >= 1 - size - 1e-6) & (correction <= 1 + size + 1e-6)).all()


@pytest.mark.parametrize("net", tiny.NETS)
@pytest.mark.parametrize("form", ["banded", "direct"])
def test_a_new_head_corrects_nothing(net: str, form: str) -> None:
    out = BetaHead(tiny.HIDDEN, net=net, form=form)(tiny.features(4))
    assert torch.equal(out.correction, torch.ones(4))


def test_beta_grows_with_perplexity_at_exponent_one_and_falls_at_minus_one() -> None:
    features = replace(tiny.features(3), log_ppl=torch.tensor([0.5, 1.0, 2.0]))
    for exponent, ratio in ((1.0, 2.0), (-1.0, 0.5), (0.0, 1.0)):
        beta = BetaHead(tiny.HIDDEN, ppl_exponent=exponent)(features).beta
        assert (beta[1:] / beta[:-1]).tolist() == pytest.approx([ratio, ratio], rel=1e-6)


def test_a_learned_exponent_starts_without_an_opinion() -> None:
    head = BetaHead(tiny.HIDDEN, ppl_exponent="learned")
    assert torch.equal(head(tiny.features(5)).beta, torch.full((5,), 0.1))
    assert head.exponent.requires_grad


@pytest.mark.parametrize(
    ("settings", "needs"),
    [
        ({}, {Need.LOG_PPL, Need.LAST_HIDDEN}),
        ({"net": "mlp"}, {Need.LOG_PPL, Need.LAST_HIDDEN}),
        ({"net": "transformer"}, {Need.LOG_PPL, Need.HIDDEN}),
        ({"ppl_exponent": 0.0}, {Need.LAST_HIDDEN}),
        ({"max_correction": 0.0}, {Need.LOG_PPL}),
        ({"max_correction": 0.0, "ppl_exponent": 0.0}, set()),
        ({"form": "direct"}, {Need.LOG_PPL, Need.LAST_HIDDEN}),
        ({"ppl_exponent": "learned", "max_correction": 0.0}, {Need.LOG_PPL}),
    ],
    ids=lambda one: str(sorted(need.value for need in one)) if isinstance(one, set) else str(one),
)
def test_it_asks_for_what_it_reads_and_no_more(settings: dict[str, object], needs: set[Need]) -> None:
    head = BetaHead(tiny.HIDDEN, **settings)
    assert head.needs == needs
    features = tiny.features(3)
    given_only = replace(
        features,
        log_ppl=features.log_ppl if Need.LOG_PPL in needs else None,
        has_ppl=features.has_ppl if Need.LOG_PPL in needs else None,
        last_hidden=features.last_hidden if Need.LAST_HIDDEN in needs else None,
        hidden=features.hidden if Need.HIDDEN in needs else None,
        hidden_mask=features.hidden_mask if Need.HIDDEN in needs else None,
    )
    assert head(given_only).beta.shape == (3,)


def test_prompts_held_back_by_the_bounds_are_marked() -> None:
    head = BetaHead(tiny.HIDDEN, bounds=(0.05, 0.2))
    features = replace(tiny.features(4), log_ppl=torch.tensor([0.1, 0.7, 1.5, 9.0]))
    out = head(features)
    assert out.at_bound.tolist() == [True, False, False, True]
    assert out.beta[[0, 3]].tolist() == pytest.approx([0.05, 0.2], rel=1e-7)


@pytest.mark.parametrize("net", tiny.NETS)
def test_the_head_computes_in_float32_under_bf16_autocast(net: str) -> None:
    head = BetaHead(tiny.HIDDEN, net=net, form="direct")
    tiny.scattered(head, 0.3)
    features = tiny.features(4)
    plain = head(features).beta
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = head(features).beta
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, plain)


def test_one_pair_at_a_time_gives_the_same_beta_when_pairs_tokens_and_hidden_coincide() -> None:
    features = tiny.features(4, hidden=4, tokens=4)
    assert features.log_ppl is not None and features.has_ppl is not None and features.last_hidden is not None
    assert features.hidden is not None and features.hidden_mask is not None
    for net in tiny.NETS:
        for form in ("banded", "direct"):
            head = BetaHead(4, net=net, form=form)
            tiny.scattered(head, 0.5)
            together = head(features).beta
            for i in range(4):
                alone = replace(
                    features,
                    pairs=1,
                    log_ppl=features.log_ppl[i : i + 1],
                    has_ppl=features.has_ppl[i : i + 1],
                    last_hidden=features.last_hidden[i : i + 1],
                    hidden=features.hidden[i : i + 1],
                    hidden_mask=features.hidden_mask[i : i + 1],
                )
                torch.testing.assert_close(head(alone).beta, together[i : i + 1])
