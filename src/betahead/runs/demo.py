"""The demo: a built-in world, a reference fitted on it, and three ways to set β, measured where the truth is known."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from betahead.data.formats import Pair
from betahead.data.templates import PromptRenderer
from betahead.data.tokenize import tokenize_pair
from betahead.evaluate.kl import KLEstimate, kl_to_reference, mean_by_prompt
from betahead.runs.atomic import write_json, write_text
from betahead.runs.config import load_config
from betahead.runs.quiet import quieted
from betahead.runs.run_lines import fit_lines
from betahead.runs.training import train_run
from betahead.worlds.grammar import GrammarWorld
from betahead.worlds.plot import Series, scatter_svg
from betahead.worlds.small_model import FitReport, SmallModelSpec, fit_small_model
from betahead.worlds.world import Split, World, WorldPrompt

CORPUS = 20_000
TRAIN_PAIRS = 960
EVAL_PAIRS = 160
TEST_PROMPTS = 64
SAMPLES = 4
MAX_NEW_TOKENS = 48

_LEARNED: dict[str, Any] = {"kind": "learned", "initial_beta": 0.1, "ppl_tokens": "content", "learning_rate": 5e-3}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "fixed": {"kind": "fixed", "beta": 0.1},
    "joint": {**_LEARNED, "learning": {"kind": "joint"}},
    "perspective": {**_LEARNED, "learning": {"kind": "perspective"}},
}
"""The section `beta` of each run."""

LEARNED = ("joint", "perspective")
REFERENCE = SmallModelSpec()
"""The reference of the demo: about a minute of fitting on two cores."""

_CONFIG = """
model: {{name: {reference}, dtype: float32}}
data: {{train: {train}, eval: {held_out}, max_length: 128}}
beta: {beta}
train:
  num_train_epochs: 1
  per_device_train_batch_size: 8
  per_device_eval_batch_size: 32
  learning_rate: 5.0e-4
  lr_scheduler_type: cosine
  logging_steps: 30
  save_strategy: "no"
  use_cpu: true
evaluate: {{prompts: {eval_pairs}, samples: 4, max_new_tokens: 48, batch_size: 32}}
seed: {seed}
output: {output}
"""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a policy does on test prompts that nothing was fitted or tuned on.

    Args:
        gold: mean gold reward of its answers.
        kl: nats per answer from the reference, None for the reference itself.
        answers: the first answer to each prompt.
    """

    gold: KLEstimate
    kl: KLEstimate | None
    answers: list[str]


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Everything that the demo found.

    Args:
        folder: where it lies.
        fit: what fitting the reference cost.
        policies: measurements of the reference and of every method, by name.
        topics: per topic its planted familiarity and label noise, mean log PPL, and mean β per learned method.
        prompts: the test prompts behind `policies`.
    """

    folder: Path
    fit: FitReport
    policies: dict[str, Measured]
    topics: list[dict[str, Any]]
    prompts: list[WorldPrompt]


def free_folder(wanted: Path) -> Path:
    """The folder, or the first of NAME-2, NAME-3 … that does not exist, so that a second demo destroys nothing."""
    if not wanted.exists():
        return wanted
    number = 2
    while (other := wanted.with_name(f"{wanted.name}-{number}")).exists():
        number += 1
    return other


def run_demo(folder: Path, console: Console, *, seed: int = 0, scale: float = 1.0) -> Demo:
    """Fit the reference, train the three methods on the same pairs, measure them on the same test prompts.

    Args:
        folder: must not exist.
        console: where progress is shown.
        seed: of world, fit and training.
        scale: shrinks corpus, fit and pairs alike, for a short look.
    """
    world = GrammarWorld()
    folder.mkdir(parents=True)
    with quieted():
        fit = fit_small_model(
            world.corpus(max(200, int(CORPUS * scale)), seed),
            folder / "reference",
            spec=replace(REFERENCE, tokens=max(20_000, int(REFERENCE.tokens * scale))),
            seed=seed,
            on_progress=fit_lines(console, 5),
        )
        console.print(
            f"reference  {fit.parameters / 1e6:.2f} M parameters, loss {fit.loss_last:.2f} nats per token, "
            f"{fit.seconds:.0f} s",
            highlight=False,
            soft_wrap=True,
        )
        data = _written_pairs(world, folder, seed, scale)
        for name, beta in METHODS.items():
            console.print(f"\n[bold]{name}[/bold]  beta: {json.dumps(beta)}", highlight=False, soft_wrap=True)
            text = _CONFIG.format(
                reference=folder / "reference",
                train=data["train"],
                held_out=data["eval"],
                beta=json.dumps(beta),
                eval_pairs=EVAL_PAIRS,
                seed=seed,
                output=folder / name,
            )
            train_run(load_config(text), console)
        prompts = world.prompts(max(16, int(TEST_PROMPTS * scale)), seed, "test")
        policies = _measured(world, folder, prompts, seed)
    demo = Demo(folder=folder, fit=fit, policies=policies, topics=_topics(world, folder), prompts=prompts)
    for name in LEARNED:
        write_text(folder / f"beta_{name}.svg", _plot(folder, name))
    write_json(folder / "demo.json", demo_json(demo))
    return demo


def demo_json(demo: Demo) -> dict[str, Any]:
    """The numbers of the demo as JSON values."""

    def estimate(found: KLEstimate | None) -> dict[str, Any] | None:
        return None if found is None else {"mean": found.nats, "standard_error": found.standard_error}

    policies = {name: {"gold": estimate(m.gold), "kl": estimate(m.kl)} for name, m in demo.policies.items()}
    return {"policies": policies, "topics": demo.topics, "fit_seconds": demo.fit.seconds}


def _written_pairs(world: World, folder: Path, seed: int, scale: float) -> dict[str, Path]:
    """The pairs as the preference files a person would bring."""
    paths: dict[str, Path] = {}
    counts: tuple[tuple[Split, int], ...] = (("train", TRAIN_PAIRS), ("eval", EVAL_PAIRS))
    for split, count in counts:
        paths[split] = folder / f"{split}.jsonl"
        rows = [json.dumps(pair.row) for pair in world.pairs(max(32, int(count * scale)), seed, split)]
        write_text(paths[split], "\n".join(rows) + "\n")
    return paths


def _measured(world: World, folder: Path, prompts: list[WorldPrompt], seed: int) -> dict[str, Measured]:
    """Gold reward and KL of the reference and of every method, from answers sampled at temperature 1."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder / "reference")
    renderer = PromptRenderer(tokenizer)
    ids = [
        tokenize_pair(Pair(prompt=p.text, chosen="a", rejected="b", domain="", where="prompt"), renderer).prompt_ids
        for p in prompts
    ]
    reference = AutoModelForCausalLM.from_pretrained(folder / "reference")
    found: dict[str, Measured] = {}
    for name in ("reference", *METHODS):
        policy = reference if name == "reference" else AutoModelForCausalLM.from_pretrained(folder / name / "policy")
        result = kl_to_reference(
            policy,
            reference,
            tokenizer,
            ids,
            samples=SAMPLES,
            max_new_tokens=MAX_NEW_TOKENS,
            seed=seed,
            eos_token_ids=renderer.end_ids,
            batch_size=64,
        )
        texts = [[str(tokenizer.decode(a, skip_special_tokens=True)) for a in answers] for answers in result.answers]
        gold = np.array(
            [[world.gold_reward(p.text, text) for text in row] for p, row in zip(prompts, texts, strict=True)]
        )
        found[name] = Measured(
            gold=mean_by_prompt(gold),
            kl=None if name == "reference" else result.kl,
            answers=[row[0] for row in texts],
        )
    return found


def _last_snapshot(folder: Path) -> list[dict[str, Any]]:
    rows = pq.read_table(folder / "prompts.parquet").to_pylist()
    last = max(row["step"] for row in rows)
    return [row for row in rows if row["step"] == last]


def _topics(world: World, folder: Path) -> list[dict[str, Any]]:
    """Per topic what is planted, and what the learned methods made of it."""
    snapshots = {name: _last_snapshot(folder / name) for name in LEARNED}
    found: list[dict[str, Any]] = []
    for topic in world.topics:
        row: dict[str, Any] = {
            "topic": topic.name,
            "familiarity": topic.familiarity,
            "label_noise": topic.label_noise,
            "log_ppl": float(np.mean([r["log_ppl"] for r in snapshots[LEARNED[0]] if r["domain"] == topic.name])),
        }
        for name in LEARNED:
            row[f"beta_{name}"] = float(np.mean([r["beta"] for r in snapshots[name] if r["domain"] == topic.name]))
        found.append(row)
    return found


def _plot(folder: Path, name: str) -> str:
    """β against log PPL of the held-out prompts after training, a colour per topic."""
    rows = _last_snapshot(folder / name)
    topics = sorted({row["domain"] for row in rows})
    series = [
        Series(label=topic, points=[(row["log_ppl"], row["beta"]) for row in rows if row["domain"] == topic])
        for topic in topics
    ]
    return scatter_svg(
        series,
        title=f"What beta was learned ({name}), one dot per held-out prompt",
        x_label="log PPL of the prompt under the policy (nats per token)",
        y_label="beta",
    )
