"""A training loop of one's own: data, forward pass, rule and loss from this package, the rest plain PyTorch."""

import argparse
import copy

import torch
from small import model_and_pairs
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

from betahead import LearnedBeta
from betahead.data.collate import PairCollator
from betahead.data.prepare import prepare_pairs
from betahead.forward.model import PreferenceModel
from betahead.reference.frozen import FrozenReference
from betahead.train.optimizer import clip_apart, give_rule_its_own_group
from betahead.types import PairBatch


def main() -> None:
    """Train a few steps and print what the log of the trainer would."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=60_000, help="positions that the small model is fitted on")
    chosen = parser.parse_args()
    folder, pairs = model_and_pairs(chosen.tokens)
    torch.manual_seed(0)

    tokenizer = AutoTokenizer.from_pretrained(folder)
    policy = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    reference = FrozenReference(copy.deepcopy(policy))  # the policy as it is now
    records = prepare_pairs(str(pairs), tokenizer, ppl_tokens="content").dataset
    batches = DataLoader(
        records, batch_size=8, shuffle=True, collate_fn=PairCollator(pad_token_id=tokenizer.pad_token_id)
    )

    rule = LearnedBeta(net="mlp", ppl_tokens="content")
    rule.build(policy.config.hidden_size, seed=0)
    model = PreferenceModel(policy, rule)  # one module, so that a wrapper for many ranks sees both
    with torch.no_grad():  # the scale of log PPL, once, before training
        seen = [model.scored(PairBatch.from_dict(batch))[1] for batch in batches]
        rule.calibrate(torch.cat([one.log_ppl[one.has_ppl] for one in seen]))

    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    give_rule_its_own_group(optimizer, rule, rule.learning_rate)
    step = 0
    while step < chosen.steps:
        for batch in batches:
            scores = reference.scores(PairBatch.from_dict(batch))
            found = model(**batch, **scores.columns())
            optimizer.zero_grad()
            found["losses"].mean().backward()
            clip_apart(policy.parameters(), 1.0)  # apart, so that the head's gradient cannot shrink the policy's step
            clip_apart(rule.parameters(), 1.0)
            model.step_taken(lambda total: total)  # sums over ranks; there is one
            optimizer.step()
            step += 1
            loss, margin, beta = (found[name].mean().item() for name in ("losses", "margin", "beta"))
            print(f"step {step:>3}  loss {loss:.3f}  margin {margin:+.2f} nats  β {beta:.4f}")
            if step == chosen.steps:
                break


if __name__ == "__main__":
    main()
