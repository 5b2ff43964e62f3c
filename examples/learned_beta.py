"""A whole run from Python: β per prompt by perspective learning, and what became of the β of every topic."""

import argparse
from collections import defaultdict
from statistics import geometric_mean

import pyarrow.parquet as pq
from rich.console import Console
from small import model_and_pairs

from betahead.runs.config import load_config
from betahead.runs.training import train_run

CONFIG = """
model: {{name: {model}, dtype: float32}}
data: {{train: {pairs}, holdout: 0.25, max_length: 128}}
beta: {{kind: learned, form: direct, ppl_tokens: content, learning_rate: 5.0e-3, learning: {{kind: perspective}}}}
train:
  max_steps: {steps}
  per_device_train_batch_size: 8
  learning_rate: 5.0e-4
  logging_steps: 5
  use_cpu: true
evaluate: {{prompts: 64, samples: 2, max_new_tokens: 16}}
output: {output}
"""


def main() -> None:
    """Train, then read the run's folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=60_000, help="positions that the small model is fitted on")
    parser.add_argument("--output", default="runs/learned_beta")
    chosen = parser.parse_args()
    model, pairs = model_and_pairs(chosen.tokens)
    config = load_config(CONFIG.format(model=model, pairs=pairs, steps=chosen.steps, output=chosen.output))
    run = train_run(config, Console()).folder

    # prompts.parquet has β of the held-out prompts at 0, 25, 50, 75 and 100 % of training.
    found: defaultdict[str, defaultdict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in pq.read_table(run.path / "prompts.parquet").to_pylist():
        found[row["domain"]][row["progress"]].append(row["beta"])
    print("topic        β before   β after")
    for topic, betas in sorted(found.items()):
        print(f"{topic:<12} {geometric_mean(betas[0.0]):>8.3f} {geometric_mean(betas[1.0]):>9.3f}")
    print(f"betahead inspect {run.path} --prompt … shows the β of any prompt")


if __name__ == "__main__":
    main()
