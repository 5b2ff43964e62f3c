"""The shared road under what people train with: checkpointing, adapters, compiled blocks, half precision."""

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import families
import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import Need
from betahead.data.collate import PairCollator
from betahead.data.pack import PackedCollator
from betahead.forward.model import PreferenceModel
from betahead.forward.roads import pair_forward
from betahead.train.trainer import DPOTrainer
from betahead.types import bundled

RECORDS = tiny.records(4)
PACKED, PLAIN = PackedCollator(), PairCollator(pad_token_id=0)


def slopes(model: nn.Module, collate: Any = PACKED, records: Any = RECORDS) -> tuple[Tensor, dict[str, Tensor]]:
    logps, features = pair_forward(model, bundled(collate(records)), frozenset(Need), couple=True)
    assert features.log_ppl is not None and features.last_hidden is not None
    margin = logps.chosen - logps.rejected
    loss = nn.functional.softplus(-0.2 * features.log_ppl * margin).sum() + features.last_hidden.square().sum()
    loss.backward()
    return loss.detach(), families.gradients(model)


def assert_agree(found: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found[0], wanted[0], rtol=tolerance, atol=0)
    families.assert_gradients_agree(found[1], wanted[1], tolerance)


@tiny.OLD_NAMES
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize(
    "name", ["qwen2", "gemma2, softcaps and alternating windows", "gpt2, absolute positions", "qwen3 moe"]
)
def test_gradient_checkpointing_changes_nothing(name: str, reentrant: bool) -> None:
    model = families.family(name).train()
    wanted = slopes(model)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    runs: Counter[str] = Counter()
    body: Any = model.get_decoder()
    for number, layer in enumerate(body.h if name.startswith("gpt2") else body.layers):
        part = layer.attn if name.startswith("gpt2") else layer.self_attn
        part.register_forward_pre_hook(lambda *_, number=number: runs.update([str(number)]))
    assert_agree(slopes(model), wanted)
    # Each layer ran twice: once more for the backward pass.
    assert runs == {"0": 2, "1": 2}


@tiny.OLD_NAMES
@pytest.mark.parametrize("checkpointed", [False, True])
def test_adapters_share_prompts_switched_on_and_off(checkpointed: bool) -> None:
    adapter = LoraConfig(
        r=2, target_modules=["q_proj", "v_proj", "up_proj"], task_type="CAUSAL_LM", init_lora_weights=False
    )
    model = get_peft_model(tiny.llama(), adapter).train()
    if checkpointed:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": True})
    wanted, found = slopes(model, PLAIN), slopes(model)
    assert_agree(found, wanted)
    trained = {name for name, gradient in found[1].items() if gradient.any()}
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad}
    batch = bundled(PACKED(RECORDS))
    model.eval()
    with model.disable_adapter(), torch.no_grad():
        without = pair_forward(model, batch)[0].chosen
    with torch.no_grad():
        torch.testing.assert_close(without, pair_forward(tiny.llama(), batch)[0].chosen)
        assert not torch.allclose(without, pair_forward(model, batch)[0].chosen)


# The compiler itself looks at gradients of tensors that are not leaves.
_OWN = pytest.mark.filterwarnings(r"ignore:The \.grad attribute of a Tensor that is not a leaf:UserWarning")


@_OWN
@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_compiled_blocks_give_the_same_numbers(backend: str) -> None:
    model = tiny.qwen2(num_hidden_layers=1).train()
    wanted = slopes(model)
    torch._dynamo.reset()
    for layer in model.model.layers:
        layer.compile(backend=backend)
    assert_agree(slopes(model), wanted)
    torch._dynamo.reset()


@_OWN
def test_compiled_blocks_are_not_compiled_anew_for_every_batch() -> None:
    model = tiny.qwen2(num_hidden_layers=1).train()
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    for layer in model.model.layers:
        layer.compile(backend=counter)
    counts: list[int] = []
    for seed in range(6):
        slopes(model, records=tiny.records(2 + seed % 3, seed))
        counts.append(counter.frame_count)
    assert counts[0] > 0
    assert counts[3] == counts[-1]
    torch._dynamo.reset()


@pytest.mark.parametrize("mixed", [True, False], ids=["autocast", "bf16 weights"])
@pytest.mark.parametrize(
    "name", ["qwen2", "llama", "gemma2, softcaps and alternating windows", "gpt2, absolute positions"]
)
def test_half_precision_is_as_near_the_truth_as_on_the_plain_road(name: str, mixed: bool) -> None:
    exact = families.family(name).train()
    wanted, truth = slopes(exact)
    model = copy.deepcopy(exact) if mixed else copy.deepcopy(exact).bfloat16()

    def off(collate: Any) -> tuple[float, float]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            loss, found = slopes(model, collate)
        assert loss.dtype == torch.float32
        assert {gradient.dtype for gradient in found.values()} == {torch.float32 if mixed else torch.bfloat16}
        flat, other = (torch.cat([one.flatten().float() for one in each.values()]) for each in (found, truth))
        return abs(float(loss / wanted) - 1), float((flat - other).norm() / other.norm())

    (packed_loss, packed), (plain_loss, plain) = off(PACKED), off(PLAIN)
    assert packed_loss <= max(2 * plain_loss, 0.02)
    assert packed <= 1.5 * plain
    assert plain < 0.3


def trained(folder: Path, forward: str, **settings: Any) -> DPOTrainer:
    trainer = DPOTrainer(
        tiny.qwen2(),
        args=tiny.arguments(folder, forward=forward, max_steps=4, **settings),
        train_dataset=tiny.pairs(12),
        eval_dataset=tiny.pairs(6, seed=1),
        processing_class=tiny.tokenizer(),
        beta=LearnedBeta("mlp", prior_on="each"),
    )
    trainer.train()
    return trainer


@tiny.OLD_NAMES
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 3},
        {"gradient_checkpointing": True},
        {"precompute_ref_log_probs": False},
    ],
    ids=str,
)
def test_both_roads_train_the_same_policy_and_say_the_same_of_it(settings: dict[str, Any], tmp_path: Path) -> None:
    one, other = (trained(tmp_path / forward, forward, **settings) for forward in ("shared", "separate"))
    assert (one.road.kind, other.road.kind) == ("shared", "separate")
    for (name, found), wanted in zip(one.model.named_parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4, msg=name)
    for line, wanted_line in zip(one.state.log_history, other.state.log_history, strict=True):
        for metric in {"loss", "rewards/margins", "beta/mean", "logps/chosen", "prompt/log_ppl"} & line.keys():
            assert line[metric] == pytest.approx(wanted_line[metric], rel=1e-3, abs=1e-4), metric
    # The last batch of an evaluation is shorter than the others.
    found, wanted = one.evaluate(), other.evaluate()
    for metric in ("eval_loss", "eval_rewards/margins", "eval_beta/mean"):
        assert found[metric] == pytest.approx(wanted[metric], rel=1e-3, abs=1e-4), metric


class Waits(TorchDispatchMode):
    """Operations that read numbers back from the device, or make tensors whose size depends on such numbers."""

    NAMES = ("_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "_to_cpu")

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        indexed = name in ("index", "index_put", "index_put_") and any(
            one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1]
        )
        if name in self.NAMES or name.startswith("unique") or indexed:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("couple", [False, True])
# Experts count their tokens, on either road.
@pytest.mark.parametrize("name", [name for name in families.FAMILIES if name != "qwen3 moe"])
@pytest.mark.usefixtures("unchecked")
def test_nothing_is_read_back_from_the_device_in_forward_and_backward(name: str, couple: bool) -> None:
    model, collated = families.family(name).train(), PACKED(RECORDS)
    with Waits() as waits:
        logps, features = pair_forward(model, bundled(collated), frozenset(Need), couple=couple)
        assert features.log_ppl is not None
        (features.log_ppl * (logps.chosen - logps.rejected)).sum().backward()
    assert waits.found == {}


@pytest.mark.usefixtures("unchecked")
def test_the_whole_loss_of_a_learned_beta_reads_nothing_back() -> None:
    reference = {"ref_chosen_logps": -9.0, "ref_rejected_logps": -8.0, "ref_log_ppl": 1.0}
    for net in tiny.NETS:
        model = PreferenceModel(tiny.qwen2().train(), tiny.built(net=net, prior_on="each"))
        collated = PACKED([record | reference for record in RECORDS])
        with Waits() as waits:
            model(**collated)["losses"].sum().backward()
        assert waits.found == {}, net


def test_the_count_of_waits_can_fail() -> None:
    with Waits() as waits:
        values = torch.arange(3.0)
        float(values[1])
        values[values > 1]
        values.nonzero()
    assert waits.found == {"_local_scalar_dense": 1, "index": 1, "nonzero": 1}


@pytest.mark.parametrize("couple", [False, True])
@pytest.mark.parametrize("net", tiny.NETS)
def test_a_learned_beta_costs_no_further_pass_through_the_body(net: str, couple: bool) -> None:
    policy = tiny.qwen2().train()
    passes: Counter[str] = Counter()
    policy.model.register_forward_pre_hook(lambda *_: passes.update(["body"]))
    for number, layer in enumerate(policy.model.layers):
        layer.register_forward_pre_hook(lambda *_, number=number: passes.update([f"layer {number}"]))
    model = PreferenceModel(policy, tiny.built(net=net, couple=couple))
    reference = {"ref_chosen_logps": -9.0, "ref_rejected_logps": -8.0, "ref_log_ppl": 1.0}
    model(**PACKED([record | reference for record in RECORDS]))["losses"].sum().backward()
    assert passes == {"body": 1, "layer 0": 1, "layer 1": 1}
    head = model.rule.head
    assert any(p.grad is not None and p.grad.any() for p in head.parameters())
