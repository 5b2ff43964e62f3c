"""LoRA in a few lines, for machines without peft: low-rank updates, 0 at first, of every linear layer but the head."""

import torch
from torch import Tensor, nn

RANK, ALPHA = 16, 32


class LowRank(nn.Module):
    """A frozen linear layer plus ALPHA/RANK · B A x, with float32 A and B; B starts at zero."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner
        like = {"device": inner.weight.device, "dtype": torch.float32}
        self.down = nn.Parameter(torch.randn(RANK, inner.in_features, **like) / inner.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(inner.out_features, RANK, **like))

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output with the update."""
        low = nn.functional.linear(x.to(self.down.dtype), self.down)
        return self.inner(x) + (nn.functional.linear(low, self.up) * (ALPHA / RANK)).to(x.dtype)


def with_low_rank(model: nn.Module) -> nn.Module:
    """The model frozen, with an update beside every linear layer except its LM head."""
    model.requires_grad_(False)
    linear = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.endswith("lm_head")
    ]
    for name, module in linear:
        model.set_submodule(name, LowRank(module))
    return model
