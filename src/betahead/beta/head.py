"""The BetaHead: β(x) from the policy's own view of the prompt."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from betahead.beta.bounds import beta_within
from betahead.beta.head_output import HeadOutput
from betahead.beta.head_settings import Exponent, Form, check_head, corrects, head_needs
from betahead.beta.nets import NetKind, net_of_kind
from betahead.beta.rule import Need
from betahead.types import PromptFeatures


class BetaHead(nn.Module):
    """A small network that computes β for every prompt.

    `banded`:  β(x) = β₀ · e^ω · (log PPL(x) / g)^p · f(x),  f(x) = 1 + ε·tanh(NN(h(x)))
    `direct`:  β(x) = β₀ · exp(NN([h(x), log PPL(x)]))

    with β₀ `initial_beta`, ω the learned level, g the geometric mean of log PPL over a sample of training prompts
    (`calibrate`), p `ppl_exponent` and ε `max_correction`. In the published notation, β = w·log PPL^p·f with
    w = β₀·e^ω·g^(−p), see `weight`. At p = 1 this is the formula as published; p = −1 is its stated intent, a larger β
    on familiar prompts; p = 0 leaves perplexity out.

    Args:
        hidden_size: width of the policy's hidden state.
        net: `linear` or `mlp` read the last prompt token's state, `transformer` all of the prompt's states.
        form: which of the two formulas.
        initial_beta: β₀ > 0.
        max_correction: ε in [0, 1), banded only; ratios of β beyond what log PPL gives stay below (1+ε)/(1−ε).
        ppl_exponent: p, banded only; "learned" makes it a parameter that starts at 0, without an opinion.
        bounds: (low, high) for β with 0 < low ≤ β₀ ≤ high.

    Raises:
        ConfigError: for a setting out of its range.

    Gradient:
        Flows into the head's parameters and into the features; detach the features to keep it out of the policy.
        Outside the bounds only the gradient that leads back inside passes.

    Source:
        This package, docs/theory.md; a β of the prompt alone as its KL weight: Chen et al. 2025, MallowsPO,
        proposition 4, https://arxiv.org/abs/2405.14953.

    Deviates:
        The published formula has a free w; here w = β₀·e^ω·g^(−p), so that a new head has level β₀ for every p.
    """

    log_ppl_scale: Tensor

    def __init__(
        self,
        hidden_size: int,
        *,
        net: NetKind = "linear",
        form: Form = "banded",
        initial_beta: float = 0.1,
        max_correction: float = 0.5,
        ppl_exponent: Exponent = 1.0,
        bounds: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.bounds = check_head(
            net=net,
            form=form,
            initial_beta=initial_beta,
            max_correction=max_correction,
            ppl_exponent=ppl_exponent,
            bounds=(initial_beta / 10, initial_beta * 10) if bounds is None else bounds,
        )
        self.form: Form = form
        self.initial_beta = initial_beta
        self.max_correction = max_correction
        self.ppl_exponent: Exponent = ppl_exponent
        self.net_kind: NetKind = net
        # A band of width 0 needs no network, and parameters that never get a gradient would trouble DDP.
        self.net = (
            net_of_kind(net, hidden_size, scalars=int(form == "direct")) if corrects(form, max_correction) else None
        )
        # Vectors of one number: what spreads parameters over ranks cuts along their first dimension.
        if form == "banded":
            self.log_level = nn.Parameter(torch.zeros(1))
            if ppl_exponent == "learned":
                self.exponent = nn.Parameter(torch.zeros(1))
        self.register_buffer("log_ppl_scale", torch.ones(()))

    @property
    def needs(self) -> frozenset[Need]:
        """The prompt features that `forward` reads."""
        return head_needs(self.net_kind, self.form, self.max_correction, self.ppl_exponent)

    @property
    @torch.no_grad()
    def weight(self) -> Float[Tensor, ""]:
        """w of the published formula β = w·log PPL^p·f, > 0 (banded); β₀ in the direct form."""
        if self.form == "direct":
            return torch.full_like(self.log_ppl_scale, self.initial_beta)
        return self.initial_beta * torch.exp(self.log_level - self._power * self.log_ppl_scale.log()).squeeze()

    @property
    def _power(self) -> Tensor | float:
        return self.exponent if self.ppl_exponent == "learned" else float(self.ppl_exponent)

    @torch.no_grad()
    def calibrate(self, log_ppl: Float[Tensor, " prompts"]) -> None:
        """Set g, the geometric mean of log PPL, from a sample of training prompts (nats per token, all > 0)."""
        self.log_ppl_scale.copy_(log_ppl.double().log().mean().exp())

    def _log_ppl(self, features: PromptFeatures) -> Tensor:
        """Log PPL in the head's precision; g where a prompt has no counted token, which makes its factor 1."""
        log_ppl, known = features.log_ppl, features.has_ppl
        assert log_ppl is not None and known is not None, "this head reads `log_ppl`"
        return torch.where(known, log_ppl.to(self.log_ppl_scale.dtype), self.log_ppl_scale)

    def _log_correction(self, features: PromptFeatures) -> Tensor | None:
        if self.net is None:
            return None
        if self.form == "direct":
            return self.net(features, self._log_ppl(features).unsqueeze(-1))
        return torch.log1p(self.max_correction * torch.tanh(self.net(features, None)))

    def forward(self, features: PromptFeatures, log_shift: float | Tensor = 0.0) -> HeadOutput:
        """β of every prompt, in the precision of the head's parameters whatever autocast says.

        The level is multiplied last and logarithms of 1 are exact, so a head with ε = 0, p = 0 and ω = 0 gives β₀ to
        the last bit.

        Args:
            features: those of `needs`.
            log_shift: added to log β before the bounds, without gradient.
        """
        device = self.log_ppl_scale.device.type
        with torch.autocast(device, enabled=False):
            log_ratio = self._log_correction(features)
            if log_ratio is None:
                log_ratio = self.log_ppl_scale.new_zeros(features.pairs)
            correction = log_ratio.exp()
            if self.form == "banded":
                log_ratio = log_ratio + self.log_level
                if self.ppl_exponent != 0.0:
                    log_ratio = log_ratio + self._power * (self._log_ppl(features) / self.log_ppl_scale).log()
            beta, at_bound = beta_within(log_ratio + log_shift, self.initial_beta, self.bounds)
        return HeadOutput(beta=beta, correction=correction, log_ratio=log_ratio, at_bound=at_bound)
