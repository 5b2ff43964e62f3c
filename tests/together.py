"""Processes that train together through gloo, kept from test to test, because importing takes longer than training."""

import os
import socket
import time
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

ROOT = Path(__file__).parents[1]
DDP: dict[str, str] = {}
Task = Callable[..., dict[str, Tensor]]


def fsdp2() -> dict[str, str]:
    """The environment that accelerate makes of the launch configuration for FSDP2."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    file = ROOT / "configs" / "accelerate" / "fsdp2.yaml"
    words = ["--config_file", str(file), "--num_cpu_threads_per_process", "1", "script.py"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    made = prepare_multi_gpu_env(arguments)
    return {name: value for name, value in made.items() if name.startswith(("FSDP_", "ACCELERATE_USE_FSDP"))}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Ranks:
    """So many ranks, started with the first task.

    Args:
        count: of processes.
        seconds: that a task may take.
    """

    def __init__(self, count: int = 2, seconds: float = 300.0) -> None:
        self.count = count
        self.seconds = seconds
        self._links: list[Connection] = []
        self._processes: list[Any] = []

    def run(self, task: Task, *arguments: Any, environment: dict[str, str] = DDP) -> list[dict[str, Tensor]]:
        """What the task returns on every rank; it is a function of a module, called with the same on each."""
        if not self._processes:
            self._start()
        for link in self._links:
            link.send((task, arguments, environment))
        until = time.monotonic() + self.seconds
        found: list[Any] = []
        try:
            for rank, link in enumerate(self._links):
                assert link.poll(max(0.0, until - time.monotonic())), f"rank {rank} is silent; {self._complaints()}"
                found.append(link.recv())
        except EOFError:
            self.stop()
            raise AssertionError(f"a rank ended during {task.__name__}") from None
        failed = [one for one in found if isinstance(one, str)]
        if failed:
            self.stop()
            raise AssertionError("\n".join(failed))
        return [load(one) for one in found]

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.join()
        for link in self._links:
            link.close()
        self._processes, self._links = [], []

    def _start(self) -> None:
        context, port = get_context("spawn"), free_port()
        for rank in range(self.count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, self.count, port, theirs), daemon=True)
            process.start()
            theirs.close()
            self._links.append(ours)
            self._processes.append(process)

    def _complaints(self) -> str:
        said = [link.recv() for link in self._links if link.poll()]
        self.stop()
        return "\n".join(one for one in said if isinstance(one, str))


def _serve(rank: int, count: int, port: int, link: Connection) -> None:
    """The body of a rank: one task after another."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    import faulthandler

    import torch

    faulthandler.enable()

    torch.set_num_threads(1)
    while True:
        try:
            task, arguments, environment = link.recv()
        except EOFError:
            return
        before = dict(os.environ)
        os.environ |= environment
        torch.manual_seed(0)
        try:
            found = task(*arguments)
            link.send(save({name: value.detach().contiguous().clone() for name, value in found.items()}))
        except BaseException:
            link.send(f"rank {rank}:\n{traceback.format_exc()}")
        finally:
            os.environ.clear()
            os.environ |= before
