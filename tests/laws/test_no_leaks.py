"""In a packed row no token changes a number that is not its own: perturbation tests, and order, split and chunks."""

from typing import Any

import families
import pytest
import tiny
import torch
from torch import Tensor

from betahead.beta.rule import Need
from betahead.data.pack import PackedCollator
from betahead.forward import chunked, kernels
from betahead.forward.roads import pair_forward
from betahead.types import bundled

EVERYTHING = frozenset(Need)
RECORDS = tiny.records(4)
FAMILIES = [
    "qwen2",
    "mistral, window shorter than the row",
    "gemma2, softcaps and alternating windows",
    "gpt2, absolute positions",
]


def other_tokens(ids: list[int]) -> list[int]:
    """As many, all different."""
    return [3 + (token + 10) % (tiny.VOCAB - 3) for token in ids]


def numbers(model: Any, records: list[dict[str, Any]]) -> list[dict[str, Tensor]]:
    """Everything that is known of each pair."""
    with torch.no_grad():
        logps, features = pair_forward(model, bundled(PackedCollator()(records)), EVERYTHING)
    assert features.hidden is not None and features.hidden_mask is not None
    assert features.log_ppl is not None and features.last_hidden is not None
    return [
        {
            "chosen": logps.chosen[i],
            "rejected": logps.rejected[i],
            "log_ppl": features.log_ppl[i],
            "last_hidden": features.last_hidden[i],
            "hidden": features.hidden[i][features.hidden_mask[i]],
        }
        for i in range(len(records))
    ]


def changed(record: dict[str, Any], *columns: str) -> dict[str, Any]:
    return record | {column: other_tokens(record[column]) for column in columns}


@pytest.fixture(params=[True, False], ids=["padded rows", "spans"])
def _kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "prefers_rows", lambda *_: request.param)


@pytest.mark.usefixtures("_kernel")
@pytest.mark.parametrize("name", FAMILIES)
class TestPerturbations:
    """The lengths stay, so every sum is made of the same terms and nothing may move at all."""

    def test_no_token_of_one_pair_changes_any_number_of_another(self, name: str) -> None:
        model = families.family(name)
        before = numbers(model, RECORDS)
        for i in range(len(RECORDS)):
            records = list(RECORDS)
            records[i] = changed(records[i], "prompt_ids", "chosen_ids", "rejected_ids")
            after = numbers(model, records)
            for j in range(len(RECORDS)):
                for what, value in before[j].items():
                    assert torch.equal(after[j][what], value) == (i != j), (i, j, what)

    @pytest.mark.parametrize("answer", ["chosen", "rejected"])
    def test_no_token_of_one_answer_changes_the_other_or_the_prompt(self, name: str, answer: str) -> None:
        model = families.family(name)
        before = numbers(model, RECORDS)
        after = numbers(model, [changed(record, f"{answer}_ids") for record in RECORDS])
        for was, found in zip(before, after, strict=True):
            for what, value in was.items():
                assert torch.equal(found[what], value) == (what != answer), what

    def test_no_token_changes_what_stands_before_it(self, name: str) -> None:
        model = families.family(name)
        before = numbers(model, RECORDS)
        last = [
            record | {"prompt_ids": record["prompt_ids"][:-1] + other_tokens(record["prompt_ids"][-1:])}
            for record in RECORDS
        ]
        for was, found in zip(before, numbers(model, last), strict=True):
            assert torch.equal(found["hidden"][:-1], was["hidden"][:-1])
            assert not torch.equal(found["hidden"][-1], was["hidden"][-1])


@pytest.mark.usefixtures("_kernel")
@pytest.mark.parametrize("name", FAMILIES)
def test_no_gradient_of_one_pairs_numbers_reaches_tokens_of_another(name: str) -> None:
    model = families.family(name)
    embedded: list[Tensor] = []

    def keep(module: Any, args: Any, output: Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.get_input_embeddings().register_forward_hook(keep)
    batch = bundled(PackedCollator()(RECORDS))
    logps, _ = pair_forward(model, batch)
    starts = [sum(sum(span) for span in batch.spans[:i]) for i in range(len(RECORDS) + 1)]
    for answers, which in ((logps.chosen, "chosen"), (logps.rejected, "rejected")):
        for i, (prompt, chosen, rejected) in enumerate(batch.spans):
            model.zero_grad(set_to_none=True)
            embedded[0].grad = None
            answers[i].backward(retain_graph=True)
            assert embedded[0].grad is not None
            reached = embedded[0].grad[0].abs().sum(-1) > 0
            # The last token of an answer predicts nothing.
            wanted = torch.zeros(starts[-1], dtype=torch.bool)
            begins = starts[i] + prompt + (0 if which == "chosen" else chosen)
            wanted[begins : begins + (chosen if which == "chosen" else rejected) - 1] = True
            outside = ~wanted
            outside[starts[i] : starts[i] + prompt] = False
            assert not reached[outside].any()
            assert reached[wanted].all()
            assert reached[starts[i] + prompt - 1]


@pytest.mark.parametrize("name", FAMILIES)
def test_packing_order_batch_split_and_chunk_size_change_rounding_only(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = families.family(name).double()
    with families.Wide():
        whole = numbers(model, RECORDS)
        ways = {
            "reversed": numbers(model, RECORDS[::-1])[::-1],
            "one by one": [numbers(model, [record])[0] for record in RECORDS],
            "one and three": numbers(model, RECORDS[:1]) + numbers(model, RECORDS[1:]),
        }
        tiles: list[tuple[int, int]] = []
        for size in ((1, 1000), (3, 1000), (1000, 7), (4, 13)):
            monkeypatch.setattr(chunked, "tile", lambda *_, size=size: tiles.append(size) or size)
            ways[f"tiles of {size}"] = numbers(model, RECORDS)
            assert tiles and tiles[-1] == size
    for way, found in ways.items():
        for one, other in zip(found, whole, strict=True):
            for what, value in other.items():
                said = f"{way}: {what}"
                torch.testing.assert_close(one[what], value, rtol=1e-12, atol=1e-12, msg=said)


def test_gradients_add_up_over_splits_of_a_batch() -> None:
    model = tiny.qwen2().double()

    def slopes(batches: list[list[dict[str, Any]]]) -> dict[str, Tensor]:
        for records in batches:
            logps, _ = pair_forward(model, bundled(PackedCollator()(records)))
            (logps.chosen - logps.rejected).sum().backward()
        return families.gradients(model)

    with families.Wide():
        whole = slopes([RECORDS])
        for split in ([RECORDS[::-1]], [RECORDS[:1], RECORDS[1:]], [[record] for record in RECORDS]):
            families.assert_gradients_agree(slopes(split), whole, 1e-12)
