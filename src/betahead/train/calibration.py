"""The scale of log PPL: its geometric mean over a sample of training prompts, measured before the first step."""

import random
import time
from dataclasses import dataclass

import torch
from datasets import Dataset
from jaxtyping import Float
from torch import nn

from betahead.beta.rule import BetaRule, Need
from betahead.data.passes import PassCollator
from betahead.errors import DataError
from betahead.forward.modes import evaluating
from betahead.forward.roads import scores_without_gradient
from betahead.reference.frozen import FrozenReference
from betahead.train.arguments import DPOConfig
from betahead.types import bundled, on_device


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What calibrating found and cost.

    Args:
        prompts: distinct prompts read.
        scale: g, the geometric mean of log PPL, nats per token.
        seconds: wall time.
    """

    prompts: int
    scale: float
    seconds: float


def sample_of_prompts(dataset: Dataset, limit: int, seed: int) -> list[int]:
    """Row numbers of at most `limit` distinct prompts; the same on every rank, whatever the order of the shards."""
    first = {prompt: row for row, prompt in reversed(list(enumerate(dataset["prompt_id"])))}
    chosen = sorted(first)
    random.Random(seed).shuffle(chosen)
    return [first[prompt] for prompt in chosen[:limit]]


def calibration_for(
    policy: nn.Module,
    reference: FrozenReference,
    rule: BetaRule,
    dataset: Dataset | None,
    collate: PassCollator,
    args: DPOConfig,
) -> Calibration | None:
    """`calibrate` with the model whose perplexity the rule reads; None without data.

    A rule that reads the reference's entropy gets that of every pair where the reference has scored them, and of a
    sample as large as that of the prompts where it scores them as they come.
    """
    if dataset is None:
        return None
    if Need.ENTROPY in rule.of_reference:
        rule.calibrate_entropy(_entropies(reference, dataset, collate, args))
    return calibrate(
        policy if rule.ppl_from == "policy" else reference.model,
        rule,
        dataset,
        collate,
        limit=args.calibration_prompts,
        seed=args.seed,
        batch_size=args.per_device_eval_batch_size,
        device=args.device,
    )


def calibrate(
    model: nn.Module,
    rule: BetaRule,
    dataset: Dataset,
    collate: PassCollator,
    *,
    limit: int,
    seed: int,
    batch_size: int,
    device: torch.device,
) -> Calibration | None:
    """Measure log PPL under a model that has not been trained yet, and hand it to the rule.

    Returns:
        What it found and cost, or None when the rule does not read log PPL: then nothing is run.

    Raises:
        DataError: when no prompt has a token that counts.
    """
    if Need.LOG_PPL not in rule.needs:
        return None
    began = time.perf_counter()
    rows = sample_of_prompts(dataset, limit, seed)
    found: list[torch.Tensor] = []
    with evaluating(model):
        for start in range(0, len(rows), batch_size):
            records = [dataset[i] for i in rows[start : start + batch_size]]
            for one in collate(records)["passes"]:
                batch = bundled(on_device(one, device))
                _, features = scores_without_gradient(model, batch, frozenset({Need.LOG_PPL}))
                assert features.log_ppl is not None
                assert features.has_ppl is not None
                found.append(features.log_ppl[features.has_ppl].float().cpu())
    log_ppl = torch.cat(found)
    if log_ppl.numel() == 0:
        raise DataError(
            "`data.train` must hold prompts with at least two tokens, but none of the sampled ones has a token whose "
            "probability could be read; use ppl_tokens: all or longer prompts."
        )
    rule.calibrate(log_ppl)
    scale = float(log_ppl.double().log().mean().exp())
    return Calibration(prompts=len(rows), scale=scale, seconds=time.perf_counter() - began)


def _entropies(
    reference: FrozenReference, dataset: Dataset, collate: PassCollator, args: DPOConfig
) -> Float[torch.Tensor, " pairs"]:
    if "ref_entropy" in dataset.column_names:
        return torch.tensor(list(dataset["ref_entropy"]), dtype=torch.float64)
    rows = sample_of_prompts(dataset, args.calibration_prompts, args.seed)
    size, found = args.per_device_eval_batch_size, list[torch.Tensor]()
    for start in range(0, len(rows), size):
        for one in collate([dataset[i] for i in rows[start : start + size]])["passes"]:
            entropy = reference.scores(bundled(on_device(one, args.device))).entropy
            assert entropy is not None, "the rule reads the reference's entropy, which the reference was not asked for"
            found.append(entropy.double().cpu())
    return torch.cat(found)
