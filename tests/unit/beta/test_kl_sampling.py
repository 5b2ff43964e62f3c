"""What a rule asks a trainer to sample."""

import pytest

from betahead.beta.kl_controller import KLController
from betahead.beta.kl_sampling import KLSampling, check_measured
from betahead.beta.learned import LearnedBeta
from betahead.errors import ConfigError


def test_an_estimate_must_come_before_the_last_step() -> None:
    asked = KLSampling(every=1000, prompts=4, max_new_tokens=8)
    check_measured(asked, 1001)
    check_measured(None, 1)
    with pytest.raises(ConfigError) as caught:
        check_measured(asked, 1000)
    assert str(caught.value) == (
        "`beta.learning.kl_every` must be below the number of steps, 1,000, but is 1,000 instead, so that β would "
        "never follow a KL; lower it or train longer."
    )


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        (KLController(), "beta.kl_every"),
        (LearnedBeta(learning={"kind": "budget", "target_kl": 1.0}), "beta.learning.kl_every"),
    ],
    ids=["controller", "budget"],
)
def test_the_message_names_the_key_as_it_was_said(rule: KLController | LearnedBeta, key: str) -> None:
    with pytest.raises(ConfigError, match=f"^`{key}` must be below the number of steps, 5, but is 5 instead"):
        check_measured(rule.kl_sampling, 5)


def test_a_rule_that_reads_its_kl_from_the_answers_needs_no_number_of_steps() -> None:
    assert KLController(kl_from="answers").kl_sampling is None
