"""A trained pair on disk: the policy as an ordinary Hugging Face folder, the files of rule and loss beside it."""

from pathlib import Path
from typing import Any, cast

from peft import PeftModel, set_peft_model_state_dict
from peft.utils.save_and_load import load_peft_weights
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from betahead.beta.files import load_state, save_rule
from betahead.errors import DataError
from betahead.forward.model import Policy, PreferenceModel
from betahead.train.origin import mark_trained
from betahead.train.safe_loading import check_adapter_weights
from betahead.train.spread import part_of

LOSS_STATE = "loss_state.safetensors"
"""What a loss has learned of the data; only where it keeps something."""


def save_model_folder(
    model: PreferenceModel,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase | None,
    state: dict[str, Tensor] | None = None,
) -> None:
    """Write policy (or adapter), tokenizer, rule and loss; any tool for Hugging Face folders opens the policy.

    Args:
        model: policy, rule and loss.
        folder: where to.
        tokenizer: of the policy.
        state: the model's numbers, where it has only a part of them itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.policy.save_pretrained(str(folder), state_dict=part_of(state, "policy."))
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    save_rule(model.rule, folder, hidden_size=hidden_size_of(model.policy), state=part_of(state, "rule."))
    if model.shift is not None:
        state = {name: value.detach().cpu() for name, value in model.shift.state_dict().items()}
        (folder / LOSS_STATE).write_bytes(save(state, metadata={"format": "pt"}))


def load_model_folder(model: PreferenceModel, folder: Path) -> None:
    """Fill policy, rule and loss with the numbers of a checkpoint.

    Raises:
        DataError: when files are missing or belong to another model.
    """
    policy = model.policy
    if isinstance(policy, PeftModel):
        check_adapter_weights(folder)
        adapter = policy.active_adapters[0]
        set_peft_model_state_dict(policy, load_peft_weights(str(folder), device="cpu"), adapter_name=adapter)
    else:
        files = sorted(folder.glob("model*.safetensors"))
        if not files:
            raise DataError(f"`{folder}` must hold the policy's weights, but has no model*.safetensors.")
        state = {name: value for file in files for name, value in load_file(file).items()}
        try:
            missing, unexpected = policy.load_state_dict(state, strict=False)
        except RuntimeError as error:
            sentence = " ".join(str(error).split())
            raise DataError(f"`{folder}` must hold the weights of this model, but does not fit: {sentence}") from error
        policy.tie_weights()
        tied = set(getattr(policy, "_tied_weights_keys", None) or ())
        unfit = sorted({*missing, *unexpected} - tied)
        if unfit:
            raise DataError(f"`{folder}` must hold the weights of this model, but {unfit} do not fit.")
    load_state(model.rule, folder)
    if model.shift is not None:
        if not (folder / LOSS_STATE).is_file():
            raise DataError(f"`{folder}` must hold {LOSS_STATE}, but does not; the checkpoint is incomplete.")
        model.shift.load_state_dict(load_file(folder / LOSS_STATE))


def hidden_size_of(policy: Policy) -> int:
    """Width of the policy's last hidden state: what its LM head reads, which some configs call by another name."""
    model = cast("PreTrainedModel", policy)
    width = getattr(model.get_output_embeddings(), "in_features", None)
    return int(model.config.get_text_config().hidden_size if width is None else width)


class FolderTrainer(Trainer):
    """`transformers.Trainer` whose checkpoints are such folders; no weight of theirs is pickled."""

    model: PreferenceModel

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Write the policy as an ordinary Hugging Face folder with the rule beside it, once for all ranks."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or cast("str", self.args.output_dir))
        tokenizer = cast("PreTrainedTokenizerBase | None", self.processing_class)
        save_model_folder(self.model, folder, tokenizer, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Fill policy and rule with the numbers of a checkpoint."""
        load_model_folder(self.model, Path(resume_from_checkpoint))
        mark_trained(self.model.policy)

    def _load_best_model(self) -> None:
        """Go back to the checkpoint with the best metric."""
        assert self.state.best_model_checkpoint is not None
        load_model_folder(self.model, Path(self.state.best_model_checkpoint))
