"""Token ids as text: a tokenizer with one word per id, so that a library that insists on texts gets the same ids."""

from collections.abc import Sequence

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD_ID = 0
EOS_ID = 3


def word(token: int) -> str:
    """The word of an id; brackets, because a special token is also found inside longer words."""
    return f"<{token}>"


def carrier_tokenizer(vocab: int) -> PreTrainedTokenizerFast:
    """A tokenizer that turns `<5> <17>` into [5, 17], for ids below `vocab`; pad is 0, the end of an answer 3."""
    inner = Tokenizer(models.WordLevel({word(token): token for token in range(vocab)}, unk_token=word(PAD_ID)))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=word(PAD_ID),
        eos_token=word(EOS_ID),
        unk_token=word(PAD_ID),
        clean_up_tokenization_spaces=False,
    )


def text_of(ids: Sequence[int]) -> str:
    """The text of these ids."""
    return " ".join(map(word, ids))
