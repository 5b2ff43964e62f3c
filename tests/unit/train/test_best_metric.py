import re
from pathlib import Path
from typing import Any

import pytest
import tiny

from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.errors import ConfigError
from betahead.train.best_metric import check_best_metric
from betahead.train.trainer import DPOTrainer


def trainer(folder: Path, metric: str, beta: Any, held_out: Any) -> DPOTrainer:
    best = {"metric_for_best_model": metric, "eval_strategy": "steps", "eval_steps": 1, "max_steps": 1}
    return DPOTrainer(
        tiny.qwen2(),
        args=tiny.arguments(folder, **best),
        train_dataset=tiny.pairs(4),
        eval_dataset=held_out,
        processing_class=tiny.tokenizer(),
        beta=beta,
    )


def test_every_metric_that_an_evaluation_gives_can_pick_the_best(tmp_path: Path) -> None:
    for beta in (None, LearnedBeta(ppl_exponent="learned")):
        made = trainer(tmp_path, "eval_loss", beta, tiny.pairs(3))
        for name in made.evaluate():
            if name not in ("epoch", "eval_model_preparation_time"):
                check_best_metric(tiny.arguments(tmp_path, metric_for_best_model=name), made.rule, made.eval_dataset)


def test_a_metric_that_is_not_measured_is_refused_before_training(tmp_path: Path) -> None:
    start = "`train.metric_for_best_model` must be a metric of the held-out pairs, but is "
    near = f"{start}'reward/margins' instead; did you mean `rewards/margins`?"
    with pytest.raises(ConfigError, match=f"^{re.escape(near)}$"):
        trainer(tmp_path, "reward/margins", None, tiny.pairs(3))
    with pytest.raises(ConfigError, match=f"^{re.escape(start)}'zzz' instead; choose one of loss, rewards/chosen, "):
        trainer(tmp_path, "zzz", None, tiny.pairs(3))
    with pytest.raises(ConfigError, match=f"^{re.escape(start)}'loss' instead"):
        trainer(tmp_path, "loss", None, {"near": tiny.pairs(3)})
    check_best_metric(tiny.arguments(tmp_path, metric_for_best_model="near_loss"), FixedBeta(0.1), {"near": None})
