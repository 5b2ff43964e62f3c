"""The CUDA device's name: `python -m bench.gpu_name REQUEST`, so that the parent process need not load torch."""

import json
import sys
from pathlib import Path
from typing import Any

import torch


def main(request: dict[str, Any]) -> None:
    """Write the name, or null without a device."""
    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    Path(request["result"]).write_text(json.dumps({"name": name}), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
