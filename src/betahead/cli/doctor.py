"""`betahead doctor`: what this installation can do, and what is missing for the rest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer


@dataclass(frozen=True)
class Feature:
    """Something that needs more than the core.

    Args:
        name: what a person can do with it.
        ready: whether this installation can.
        remedy: what to do if not, "" when it is ready.
    """

    name: str
    ready: bool
    remedy: str


EXTRAS = (
    ("LoRA adapters", "peft", "pip install peft"),
    ("8-bit optimizers such as train.optim=adamw_8bit", "bitsandbytes", "pip install 'betahead[gpu]'"),
    ("FlashAttention in models you load yourself", "flash-attn", "pip install flash-attn"),
    ("comparisons shared by machines through PostgreSQL", "psycopg", "pip install 'betahead[postgres]'"),
    ("the explorer, betahead explore", "gradio", "pip install 'betahead[explore]'"),
    ("parity tests against TRL", "trl", "pip install 'betahead[test]'"),
)


def doctor(json_: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False) -> None:
    """Show versions, device and memory, and what is missing for which feature."""
    import json

    facts = diagnosis()
    typer.echo(json.dumps(facts, indent=2) if json_ else "\n".join(_lines(facts)))


def diagnosis() -> dict[str, Any]:
    """Software, hardware and features, in JSON's types."""
    from betahead.runs.machine import hardware, software, version_of

    machine = hardware()
    cuda = machine["device"] == "cuda"
    gpu_remedy = "use a machine with an NVIDIA GPU and a CUDA build of torch"
    features = [Feature("training on a GPU", cuda, "" if cuda else gpu_remedy)]
    for name, package, remedy in EXTRAS:
        version = version_of(package)
        features.append(Feature(f"{name} ({package})", version is not None, "" if version else remedy))
    return {"software": software(), "hardware": machine, "features": [asdict(feature) for feature in features]}


def _lines(facts: Mapping[str, Any]) -> list[str]:
    software, hardware = facts["software"], facts["hardware"]
    lines = [f"python        {software['python']} on {software['platform']}"]
    lines += [f"{name:<13} {version or 'not installed'}" for name, version in software["packages"].items()]
    lines += ["", f"device        {hardware['device']}"]
    lines += [
        f"gpu {index}         {gpu['name']}, {gpu['memory_gib']} GiB" for index, gpu in enumerate(hardware["gpus"])
    ]
    lines += [f"processors    {hardware['cpus']} ({hardware['threads']} threads used by torch)"]
    lines += [f"memory        {hardware['memory_gib']} GiB", ""]
    for feature in facts["features"]:
        lines.append(f"{'ready  ' if feature['ready'] else 'missing'}  {feature['name']}")
        if feature["remedy"]:
            lines[-1] += f": {feature['remedy']}"
    return lines
