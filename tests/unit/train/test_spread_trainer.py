"""Weights that are spread over ranks: what is refused, and what one process makes of the same calls."""

import pytest
import tiny
import torch
from accelerate.utils import FullyShardedDataParallelPlugin

from betahead.errors import ConfigError
from betahead.train.spread import _check_plugin, part_of, whole, whole_state

_SHARDED = (
    "`fsdp_state_dict_type` must be FULL_STATE_DICT, but is SHARDED_STATE_DICT instead, whose checkpoints have a "
    "pickle that torch reads without `weights_only`; see configs/accelerate/fsdp2.yaml."
)


def test_what_is_whole_stays_what_it_is() -> None:
    value = torch.ones(3)
    assert whole(value) is value


def test_the_whole_state_is_the_models_own_and_tied_weights_stay_one_tensor() -> None:
    model = tiny.qwen2()
    state = whole_state(model)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert state["lm_head.weight"] is state["model.embed_tokens.weight"]


def test_a_part_has_the_names_below_its_prefix() -> None:
    assert part_of({"policy.a": 1, "rule.a": 2, "policy.b.c": 3}, "policy.") == {"a": 1, "b.c": 3}
    assert part_of(None, "policy.") is None


@pytest.mark.filterwarnings("ignore:sync_module_states cannot be False:UserWarning")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fsdp_version": 1}, "`fsdp_version` must be 2, but is 1 instead; see configs/accelerate/fsdp2.yaml."),
        (
            {"fsdp_version": 2, "cpu_ram_efficient_loading": True},
            "`fsdp_cpu_ram_efficient_loading` must be false, because it leaves out what a rule keeps beside its "
            "parameters, but is true instead.",
        ),
        ({"fsdp_version": 2, "state_dict_type": "SHARDED_STATE_DICT"}, _SHARDED),
        ({"fsdp_version": 2}, _SHARDED),  # accelerate's own choice where none is made
    ],
)
def test_a_kind_of_fsdp_that_is_not_made_for_this_is_refused(
    settings: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "False")
    monkeypatch.delenv("FSDP_STATE_DICT_TYPE", raising=False)
    with pytest.raises(ConfigError) as caught:
        _check_plugin(FullyShardedDataParallelPlugin(**settings))
    assert str(caught.value) == said
    whole_ones = {"fsdp_version": 2, "cpu_ram_efficient_loading": False, "state_dict_type": "FULL_STATE_DICT"}
    _check_plugin(FullyShardedDataParallelPlugin(**whole_ones))


def test_within_one_process_a_call_is_just_made() -> None:
    from betahead.beta.fixed import FixedBeta
    from betahead.forward.model import PreferenceModel

    model = PreferenceModel(tiny.qwen2(), FixedBeta(0.1))
    assert model.within(lambda: 3) == 3
    assert model._no_split_modules == tiny.qwen2()._no_split_modules
