"""The guide's commands run as they stand, with a tiny model in the place of the named ones and a few steps."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_run

from betahead.runs.presets import config_path
from betahead.runs.yaml_text import read_yaml

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^ *```(?P<kind>\w*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
NAMED = {"Qwen/Qwen2.5-0.5B-Instruct", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"}
SHORT = [
    "model.dtype=float32",
    "data.max_length=96",
    "data.holdout=0.25",
    "train.max_steps=2",
    "train.per_device_train_batch_size=4",
    "train.gradient_accumulation_steps=1",
    "train.gradient_checkpointing=false",
    "train.bf16=false",
    "train.use_cpu=true",
    "evaluate={prompts: 8, samples: 1, max_new_tokens: 4}",
]
# A KL that is measured every five steps has to be measured before the last of them.
BUDGET = ["beta.learning.kl_prompts=2", "beta.learning.kl_tokens=4", "train.max_steps=6"]


def commands() -> Iterator[list[str]]:
    """The guide's command lines, in its order."""
    for match in FENCED.finditer(GUIDE):
        if match["kind"] == "sh":
            for line in match["text"].splitlines():
                if line.strip().startswith("betahead "):
                    yield shlex.split(line.partition(" #")[0])[1:]


def short(words: list[str], model: Path) -> list[str]:
    """The command with the tiny model, and with less to do."""
    words = [str(model) if word in NAMED else word for word in words]
    words = [f"model.name={model}" if word.removeprefix("model.name=") in NAMED else word for word in words]
    if words[0] == "train":
        named = [] if any(word.startswith("model.name=") for word in words) else [f"model.name={model}"]
        budget = BUDGET if any("kind: budget" in word for word in words) else []
        return [*words, *named, *SHORT, *budget]
    if words[0] == "eval":
        words[words.index("--max-new-tokens") + 1] = "4"
        return [*words, "--device", "cpu"]
    return [*words, "--device", "cpu"] if words[0] == "inspect" else words


@pytest.fixture
def place(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_run.write_rows(tmp_path / "pairs.jsonl", tiny_run.pair_rows())
    (plan,) = [match["text"] for match in FENCED.finditer(GUIDE) if match["kind"] == "yaml"]
    (tmp_path / "my_plan.yaml").write_text(plan, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_guide_runs_in_the_order_of_the_page(
    place: Path, model: Path, betahead: Callable[..., tuple[int, str, str]]
) -> None:
    verbs: list[str] = []
    for words in commands():
        code, _, err = betahead(*short(words, model))
        assert code == 0, f"{' '.join(words)}: {err}"
        verbs.append(words[0])
    assert verbs.count("train") >= 8
    assert {"doctor", "data", "init", "inspect", "eval", "compare"} <= set(verbs)
    beta = json.loads((place / "runs" / "r1-fixed" / "run.json").read_text(encoding="utf-8"))
    assert beta
    assert (place / "comparisons" / "my_plan" / "evidence.json").is_file()


def test_the_models_that_the_guide_names_are_those_that_the_test_replaces() -> None:
    named = set(re.findall(r"(?:model\.name=|--tokenizer )(\S+)", GUIDE))
    assert named == NAMED
    preset: Any = read_yaml(config_path("r1_distill_qwen_1.5b_lora")).values
    assert preset["model"]["name"] in NAMED


def test_the_programs_of_the_guide_run_one_after_the_other(place: Path, model: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    programs = [match["text"] for match in FENCED.finditer(GUIDE) if match["kind"] == "python"]
    assert len(programs) == 2
    for program in programs:
        tiny = re.sub("|".join(map(re.escape, NAMED)), str(model), program)
        tiny = tiny.replace('output_dir="runs/from-trl"', 'output_dir="runs/from-trl", max_steps=2, use_cpu=True')
        exec(compile(tiny, "docs/guide.md", "exec"), names)
    prompt = names["tokenizer"]("What is rain?", return_tensors="pt")
    assert names["policy"](**prompt).logits.isfinite().all()
