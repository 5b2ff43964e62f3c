"""The launch configurations are ones that accelerate takes whole, and that the trainer takes then."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))
NAMES = [path.stem for path in FILES]
COMMANDS = re.findall(r"`(accelerate launch --config_file configs/[^`]+)`", (ROOT / "README.md").read_text("utf-8"))


def test_there_is_a_file_and_a_command_for_each_way() -> None:
    assert NAMES == ["ddp", "fsdp2", "zero2", "zero3"]
    assert [Path(shlex.split(command)[3]).stem for command in COMMANDS] == NAMES


@pytest.mark.parametrize("command", COMMANDS)
def test_the_launcher_takes_the_command_of_the_readme(command: str) -> None:
    _, _, *words = shlex.split(command)
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    assert (args.module, args.training_script, args.training_script_args) == (True, "betahead", ["train", "CONFIG"])
    assert (args.num_processes, args.num_machines, args.mixed_precision) == (2, 1, "no")
    stem = Path(words[1]).stem
    assert args.multi_gpu == (stem == "ddp") and args.use_fsdp == (stem == "fsdp2")
    assert args.use_deepspeed == stem.startswith("zero")


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_key_is_one_that_the_launcher_knows(path: Path) -> None:
    load_config_from_file(str(path))  # refuses unknown keys of the first level
    known = vars(launch_command_parser().parse_args(["script.py"]))
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    inner = {**content.get("fsdp_config", {}), **content.get("deepspeed_config", {})}
    assert set(inner) <= set(known)


def test_fsdp_is_of_the_second_kind_and_the_environment_says_so() -> None:
    (file,) = [str(path) for path in FILES if path.stem == "fsdp2"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", file, "script.py"]))
    made = prepare_multi_gpu_env(args)
    assert made["ACCELERATE_USE_FSDP"] == "true" and made["FSDP_VERSION"] == "2"
    assert made["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"
    assert made["FSDP_AUTO_WRAP_POLICY"] == "TRANSFORMER_BASED_WRAP"


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_takes_accumulation_and_clipping_from_the_run(stage: int) -> None:
    (file,) = [str(path) for path in FILES if path.stem == f"zero{stage}"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", file, "script.py"]))
    args.deepspeed_fields_from_accelerate_config = ""
    _, made = prepare_deepspeed_cmd_env(args)
    assert made["ACCELERATE_USE_DEEPSPEED"] == "true"
    assert made["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == str(stage)
    assert made["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] == made["ACCELERATE_GRADIENT_CLIPPING"] == "auto"


def test_the_files_are_part_of_what_is_shipped_as_source() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "configs" in project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_reads_the_stage(stage: int) -> None:
    from accelerate import DeepSpeedPlugin

    assert DeepSpeedPlugin(zero_stage=stage, gradient_accumulation_steps="auto").zero_stage == stage
