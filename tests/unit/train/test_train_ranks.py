"""Processes that were launched together: what they refuse, and what they say when one is lost."""

from pathlib import Path

import pytest
import tiny
import torch.distributed as dist

from betahead.errors import ConfigError, RankError
from betahead.train.ranks import check_ranks, first_rank, from_first_rank, lost_ranks_told


@pytest.fixture
def joined(tmp_path: Path) -> object:
    """A process group of one."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_processes_that_would_each_train_alone_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = tiny.arguments(tmp_path, use_cpu=False)
    check_ranks(args)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError) as caught:
        check_ranks(args)
    assert str(caught.value) == (
        "`use_cpu` must be true where 2 processes are launched without a device for each, but is false instead, so "
        "that each of them would train alone; say `train.use_cpu=true`, or launch one process."
    )


def test_the_first_rank_is_the_only_one_or_number_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert first_rank()
    monkeypatch.setenv("RANK", "0")
    assert first_rank()
    monkeypatch.setenv("RANK", "1")
    assert not first_rank()


def test_a_process_alone_keeps_what_it_has(joined: object) -> None:
    assert from_first_rank("a") == "a"


@pytest.mark.parametrize(
    "said", ["[/x/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:2", "Timed out waiting 100ms"]
)
def test_a_lost_rank_is_one_sentence(said: str, joined: object) -> None:
    with pytest.raises(RankError) as caught, lost_ranks_told():
        raise RuntimeError(said)
    detail = "connection closed by peer" if "closed" in said else "timed out"
    assert str(caught.value) == (
        f"training on 1 ranks must keep all of them, but rank 0 has lost another one ({detail}); see what ended that "
        "one (a signal, too little memory), and start again from the last checkpoint."
    )


def test_other_errors_pass(joined: object) -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), lost_ranks_told():
        raise RuntimeError("shapes differ")


def test_without_other_ranks_nothing_was_lost() -> None:
    with pytest.raises(RuntimeError, match="timed out"), lost_ranks_told():
        raise RuntimeError("timed out")
