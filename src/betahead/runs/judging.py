"""From the words that name a judge to the judge, and from a run's answers to its win rate."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from datasets import Dataset

from betahead.errors import ConfigError
from betahead.evaluate.judge_cache import JudgementCache
from betahead.evaluate.judge_canary import canary_matches, tried
from betahead.evaluate.judge_cost import Outlay
from betahead.evaluate.judge_endpoint import Endpoint
from betahead.evaluate.judge_model import ModelJudge
from betahead.evaluate.judge_scores import ScoreJudge, gold_judge, reward_judge
from betahead.evaluate.matches import Match
from betahead.evaluate.win_rate import win_rate_of
from betahead.runs.answers import Who, answer_ids, check_answers_fit, drawn_prompts, text_of
from betahead.runs.opened import OpenedRun

Kind = Literal["gold", "reward", "openai"]
Approve = Callable[[ModelJudge, Outlay], None]
"""Called before a model is asked anything; raises to stop."""

CANARY_PROMPTS = 4
WORKERS, TIMEOUT, MAX_TOKENS = 8, 120.0, 512
CACHE_FILE = "judgements.sqlite"


@dataclass(frozen=True, kw_only=True)
class JudgeChoice:
    """Which judge, and how it is asked.

    Args:
        judge: `gold`, `reward:PATH` or `openai:BASE_URL`.
        prompts: distinct prompts that policy and reference answer once each.
        model: the name of the judge at the endpoint.
        key_env: the environment variable that holds the endpoint's key.
        cache: where replies are kept; in the run's folder when None.
        workers: questions at the same time; `WORKERS` when None.
        timeout: seconds for one reply; `TIMEOUT` when None.
        max_tokens: of one reply; `MAX_TOKENS` when None.

    Raises:
        ConfigError: for words that name no judge, or settings that it does not read.
    """

    judge: str
    prompts: int = 100
    model: str | None = None
    key_env: str | None = None
    cache: Path | None = None
    workers: int | None = None
    timeout: float | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        kind, _, where = self.judge.partition(":")
        if not (self.judge == "gold" or (kind in {"reward", "openai"} and where)):
            raise ConfigError(f"`--judge` must be gold, reward:PATH or openai:BASE_URL, but is {self.judge!r} instead.")
        if kind == "openai":
            if self.model is None:
                raise ConfigError("`--judge openai:` must come with --judge-model NAME, but there is none.")
            self.endpoint()
            return
        for name in ("model", "key_env", "cache", "workers", "timeout", "max_tokens"):
            value = getattr(self, name)
            if value is not None:
                raise ConfigError(
                    f"`--judge-{name.replace('_', '-')}` must be left out with `--judge {kind}`, which asks no "
                    f"endpoint, but is {str(value)!r} instead; remove it."
                )

    @property
    def kind(self) -> Kind:
        """What sort of judge it is."""
        return "gold" if self.judge == "gold" else "reward" if self.judge.startswith("reward:") else "openai"

    @property
    def where(self) -> str:
        """What follows the colon."""
        return self.judge.partition(":")[2]

    def endpoint(self) -> Endpoint:
        """The endpoint, with the key out of the environment.

        Raises:
            ConfigError: the variable is not set, or holds no key.
        """
        key = None
        if self.key_env is not None:
            key = os.environ.get(self.key_env)
            if not key:
                raise ConfigError(
                    f"`--judge-key-env` must name a variable that holds the key, but {self.key_env} is not set."
                )
        assert self.model is not None
        return Endpoint(
            base_url=self.where,
            model=self.model,
            key=key,
            timeout=TIMEOUT if self.timeout is None else self.timeout,
            max_tokens=MAX_TOKENS if self.max_tokens is None else self.max_tokens,
        )


def judge_of(choice: JudgeChoice, folder: Path, device: torch.device) -> ScoreJudge | ModelJudge:
    """The judge, ready to be asked.

    Raises:
        ConfigError: a reward model that cannot be loaded.
        CacheError: a cache that is none.
    """
    if choice.kind == "gold":
        return gold_judge()
    if choice.kind == "reward":
        return reward_judge(os.path.expandvars(choice.where), device)
    path = (choice.cache or folder / CACHE_FILE).expanduser()
    return ModelJudge(endpoint=choice.endpoint(), cache=JudgementCache(path), workers=choice.workers or WORKERS)


def judged(
    opened: OpenedRun,
    records: Dataset,
    choice: JudgeChoice,
    *,
    max_new_tokens: int,
    seed: int,
    batch_size: int,
    approve: Approve,
    progress: Callable[[str, int], Callable[[int], None]],
) -> dict[str, Any]:
    """The win rate of the policy over its reference, one answer of each to every prompt.

    Args:
        records: of which the prompts are drawn.
        max_new_tokens: length of an answer at most.
        seed: of the prompts, the answers and the intervals; the reference's answers are drawn apart from the policy's.
        batch_size: answers at a time.
        approve: sees what a model will be asked, the canary included, before it is.
        progress: from a title and a number of matches to what is called as they are done.

    Raises:
        ConfigError: an endpoint that refuses the question, or a limit at which its replies are cut.
        DataError: a judge that fails the canary, gives no verdicts, does not answer, or cannot grade these prompts.
    """
    judge = judge_of(choice, opened.folder.path, opened.device)
    prompts = drawn_prompts(records, choice.prompts, seed)
    ids, texts, chosen = (cast("list[str]", list(prompts[name])) for name in ("prompt_id", "prompt", "chosen"))
    trial = canary_matches(list(zip(texts, chosen, strict=True))[:CANARY_PROMPTS])
    check_answers_fit(opened, prompts, max_new_tokens)
    if isinstance(judge, ScoreJudge):
        canary = tried(judge, trial)  # before anything is sampled, for it costs nothing
        matches = _matches(opened, prompts, ids, texts, max_new_tokens, seed, batch_size)
        cost = None
        judgements = judge.judgements(matches, progress("grading answers", len(matches)))
    else:
        matches = _matches(opened, prompts, ids, texts, max_new_tokens, seed, batch_size)
        approve(judge, judge.outlay([*trial, *matches]))
        canary = tried(judge, trial, progress("trying the judge", len(trial)))
        judgements = judge.judgements(matches, progress("judging answers", len(matches)))
        cost = judge.spent.to_dict()
        judge.cache.close()
    return {
        "judge": judge.name,
        "kind": choice.kind,
        **win_rate_of(matches, judgements, seed=seed).to_dict(),
        "canary": asdict(canary),
        "cost": cost,
        "max_new_tokens": max_new_tokens,
    }


def _matches(
    opened: OpenedRun,
    prompts: Dataset,
    ids: list[str],
    texts: list[str],
    max_new_tokens: int,
    seed: int,
    batch_size: int,
) -> list[Match]:
    """One answer of each to every prompt; the reference's seed is another, or near models would agree by it."""

    def answers(who: Who, number: int) -> list[str]:
        found = answer_ids(
            opened, who, prompts, samples=1, max_new_tokens=max_new_tokens, seed=number, batch_size=batch_size
        )
        return [text_of(opened, one[0]) for one in found]

    ours, theirs = answers("policy", seed), answers("reference", seed + 1)
    return [
        Match(prompt_id=one, prompt=text, answer=answer, other=other)
        for one, text, answer, other in zip(ids, texts, ours, theirs, strict=True)
    ]
