"""`python tests/compiled_worker.py BACKEND`: a compiled model against itself uncompiled, one line of JSON.

In a process of its own, because no compiler follows the shape checks that the tests put around every call.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import tiny
import torch
from torch import Tensor

from betahead.beta.fixed import FixedBeta
from betahead.data.collate import PairCollator
from betahead.data.pack import PackedCollator
from betahead.forward.model import PreferenceModel

RECORDS = [record | {"ref_chosen_logps": -9.0, "ref_rejected_logps": -8.0} for record in tiny.records(4)]
ROADS = {"shared": PackedCollator(), "separate": PairCollator(pad_token_id=0)}


def found(backend: str | None, *, road: str, tied: bool, blocks: bool) -> dict[str, Tensor]:
    """The losses and the gradient of every parameter."""
    policy = tiny.qwen2(tie_word_embeddings=tied, num_hidden_layers=1).train()
    model: Any = PreferenceModel(policy, FixedBeta(0.1))
    run: Any = model
    if backend is not None and blocks:
        for layer in policy.model.layers:
            layer.compile(backend=backend)
    elif backend is not None:
        run = torch.compile(model, backend=backend)
    losses: Tensor = run(**ROADS[road](RECORDS))["losses"]
    losses.sum().backward()
    torch._dynamo.reset()
    return {"losses": losses.detach(), **{n: p.grad for n, p in model.named_parameters() if p.grad is not None}}


def differences(backend: str) -> Iterator[tuple[str, dict[str, float]]]:
    """By way of compiling, how far each number is off as a share of its tensor's largest."""
    for road, tied, blocks in (
        ("shared", True, False),
        ("shared", False, False),
        ("shared", True, True),
        ("shared", False, True),
        ("separate", True, False),
    ):
        ours, plain = (found(one, road=road, tied=tied, blocks=blocks) for one in (backend, None))
        assert ours.keys() == plain.keys()
        off = {name: float((ours[name] - plain[name]).abs().max() / plain[name].abs().max()) for name in plain}
        yield f"{road}, {'tied' if tied else 'untied'}, {'blocks' if blocks else 'whole'}", off


if __name__ == "__main__":
    print(json.dumps(dict(differences(sys.argv[1]))))
