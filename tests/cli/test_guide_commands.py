"""The commands of guide and README run as they stand, with a tiny model in the place of the named ones and a few steps.

What is not run here stands in `ELSEWHERE` with the test that runs it, or in `NOT_RUN` with the reason.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_run
from together import free_port

from betahead.runs.presets import config_path
from betahead.runs.yaml_text import read_yaml

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
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

LAUNCHED = (
    "accelerate launch --config_file configs/accelerate/ddp.yaml -m betahead train learned_beta data.train=pairs.jsonl"
)
ON_RANKS = "laws/test_run_on_ranks.py::test_the_command_of_the_readme_trains_on_two_ranks"
ELSEWHERE = {
    "make demo": "cli/test_demo_verb.py::test_the_demo_trains_three_betas_and_says_what_came_out",
    "python -m bench": "bench/test_bench_commands.py::test_the_harness_measures_both_libraries_and_writes_every_number",
    "betahead train CONFIG [section.key=value …] [--resume]": (
        "cli/test_resume_verb.py::test_a_run_that_was_stopped_says_how_to_go_on_and_ends_as_if_it_had_not_been"
    ),
    "betahead demo": "cli/test_demo_verb.py::test_the_demo_trains_three_betas_and_says_what_came_out",
    "betahead init PRESET": "cli/test_shell.py::test_init_writes_a_preset_that_stays_when_asked_again",
    "betahead init --list": "cli/test_shell.py::test_init_lists_the_presets_and_asks_for_one",
    "betahead data FILE": "cli/test_data_verb.py::test_the_verb_says_what_the_file_holds",
    'betahead inspect RUN --prompt "…"': "cli/test_inspect_verb.py::test_the_table_shows_each_prompt_on_a_line",
    "betahead eval RUN": "cli/test_eval_verb.py::test_the_table_shows_every_number_with_its_interval",
    "betahead push RUN --to NAME": (
        "cli/test_push_verb.py::test_the_policy_its_card_and_its_head_arrive_as_they_lie_in_the_folder"
    ),
    "betahead methods": "cli/test_methods_verb.py::test_the_tables_name_every_method_once",
    "betahead methods NAME": (
        "cli/test_methods_verb.py::test_one_method_is_shown_with_formula_defaults_source_and_how_to_say_it"
    ),
    "betahead compare PLAN": "cli/test_compare_verb.py::test_a_comparison_prints_verdicts_and_leaves_its_evidence",
    "betahead report RUN [RUN …]": "cli/test_report_verb.py::test_a_report_is_one_file_whose_place_is_printed",
    "accelerate launch --config_file configs/accelerate/ddp.yaml -m betahead train CONFIG": ON_RANKS,
    "accelerate launch --config_file configs/accelerate/fsdp2.yaml -m betahead train CONFIG": ON_RANKS,
    "betahead explore RUN": (
        "browser/test_explore.py::test_the_numbers_are_those_of_inspect_and_beta_moves_with_every_edit"
    ),
    "betahead init --schema": "unit/runs/test_config_schema.py::test_the_command_prints_it",
}
"""Commands of the pages, most of them with a name to fill in, and the test under `tests` that runs one such."""
DEEPSPEED = "needs DeepSpeed and CUDA; architecture/test_launch_configs.py has the launcher parse it"
SERVED = "another program, which is no dependency; the page says so"
NOT_RUN = {
    "git clone REPOSITORY betahead && cd betahead": "REPOSITORY is the address of the page",
    "accelerate launch --config_file …": "the heading of a column",
    "accelerate launch --config_file configs/accelerate/zero2.yaml -m betahead train CONFIG": DEEPSPEED,
    "accelerate launch --config_file configs/accelerate/zero3.yaml -m betahead train CONFIG": DEEPSPEED,
    "vllm serve RUN/policy": SERVED,
    "vllm serve MODEL --enable-lora --lora-modules mine=RUN/policy": SERVED,
    "lm_eval --model hf --model_args pretrained=RUN/policy --tasks gsm8k": SERVED,
    "lm_eval --model hf --model_args pretrained=MODEL,peft=RUN/policy --tasks gsm8k": SERVED,
}


def lines(page: str) -> Iterator[str]:
    """The command lines of a page's shell blocks, in its order."""
    for match in FENCED.finditer(page):
        if match["kind"] == "sh":
            yield from (line.partition(" #")[0].strip() for line in match["text"].splitlines() if line.strip())


def commands(page: str = GUIDE) -> Iterator[list[str]]:
    """Those that begin with `betahead`."""
    yield from (shlex.split(line)[1:] for line in lines(page) if line.startswith("betahead "))


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


def test_the_commands_of_the_readme_run(
    place: Path, model: Path, betahead: Callable[..., tuple[int, str, str]]
) -> None:
    found = list(commands(README))
    assert found
    for words in found:
        code, _, err = betahead(*short(words, model))
        assert code == 0, f"{' '.join(words)}: {err}"
    assert (place / "runs" / "learned_beta" / "policy" / "beta_head.json").is_file()


def test_the_launcher_of_the_guide_trains_on_two_ranks(place: Path, model: Path) -> None:
    assert LAUNCHED in list(lines(GUIDE))
    _, _, option, config, *rest = shlex.split(LAUNCHED)
    ends = ["--main_process_port", str(free_port()), "--num_cpu_threads_per_process", "1"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", option, str(ROOT / config), *ends]
    words = [*rest[:2], *short(rest[2:], model)]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [*launch, *words], capture_output=True, text=True, check=False, timeout=300, env=environment, cwd=place
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert (place / "runs" / "learned_beta" / "policy" / "beta_head.json").is_file()


def test_every_command_of_guide_and_readme_is_run_somewhere_or_says_why_not() -> None:
    inline = re.findall(r"`((?:betahead|accelerate|python -m|make|git) [^`]+)`", FENCED.sub("", README))
    here = {line for page in (GUIDE, README) for line in lines(page) if line.startswith("betahead ")} | {LAUNCHED}
    found = {*lines(GUIDE), *lines(README), *inline}
    assert found - here == ELSEWHERE.keys() | NOT_RUN.keys()
    assert not ELSEWHERE.keys() & NOT_RUN.keys()


@pytest.mark.parametrize("test", sorted(set(ELSEWHERE.values())))
def test_the_tests_that_run_the_other_commands_are_there(test: str) -> None:
    path, _, name = test.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / "tests" / path).read_text(encoding="utf-8"), re.MULTILINE)
