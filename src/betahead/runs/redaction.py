"""Secrets stay out of run folders, logs and errors: what looks like a token or a key is blotted out."""

import os
import re
from collections.abc import Sequence

BLOT = "<redacted>"

# The ends of names whose values are secrets; `pad_token` and its like are words of a tokenizer.
_SECRET = (
    r"(?:(?<!pad_)(?<!eos_)(?<!bos_)(?<!unk_)(?<!sep_)(?<!cls_)(?<!mask_)token"
    r"|api[_-]?key|[_-]key|secret|password|passwd|passphrase)"
)
_NAME = re.compile(rf"{_SECRET}[\"']?\Z", re.IGNORECASE)
_PATTERNS = (
    # Tokens by their form, wherever they stand.
    re.compile(r"\b(?P<kept>hf_|api_org_|gh[opsur]_|gsk_)[A-Za-z0-9]{20,}"),
    re.compile(r"\b(?P<kept>sk-|github_pat_|glpat-|nvapi-|xox[abopsr]-)(?=[\w-]*\d)[\w-]{20,}"),
    re.compile(r"\b(?P<kept>AKIA|AIza)[\w-]{16,}"),
    re.compile(r"\b(?P<kept>eyJ)[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),
    # Headers: Authorization: Bearer x.
    re.compile(r"\b(?P<kept>(?:Bearer|Basic)\s+)(?=\S*\d)[\w.~+/=-]{8,}"),
    # User and password in addresses, either of which may be the token: https://user:password@host, the last @ of a word
    # being the one before the host, and https://token@host; taken for a path, an address loses a slash.
    re.compile(r"(?P<kept>://?)(?:[^/\s:@]*:[^\s\"']+|[^/\s:@\"'<>?#]+:?)(?=@)"),
    # Values by their name, which must end in the secret's word: `hub_token: x` is one, `max_new_tokens: 128` is not.
    re.compile(
        rf"(?P<kept>{_SECRET}[\"']?(?:\s*[:=]\s*))"
        rf"(?!(?:null|none|true|false)\b|{BLOT})(?:\"[^\"]*\"|'[^']*'|[^\s,}}\]]+)",
        re.IGNORECASE,
    ),
    # Options of a command: --token x.
    re.compile(rf"(?P<kept>--[\w.-]*(?:token|key|secret|password)\s+)(?!{BLOT})[^\s-]\S*", re.IGNORECASE),
)
# A shorter value in the environment may be a word that stands elsewhere by chance.
_LEAST = 12


def redacted(text: str) -> str:
    """The text with `<redacted>` in place of secrets.

    Secrets are tokens of well-known services by their form, whatever stands before the host of an address, values whose
    name ends in `token`, `_key`, `secret` or `password`, and what an environment variable of such a name holds.
    """
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<kept>{BLOT}", text)
    for name, value in os.environ.items():
        if len(value) >= _LEAST and value in text and names_secret(name):
            text = text.replace(value, BLOT)
    return text


def redacted_words(words: Sequence[str]) -> list[str]:
    """The words of a command with `<redacted>` in place of secrets, each word as the shell gave it."""
    found: list[str] = []
    after_option = False
    for word in words:
        name, sign, _ = word.partition("=")
        option = word.startswith("--")
        if after_option and not option:
            found.append(BLOT)
        elif sign and names_secret(name):
            found.append(f"{name}={BLOT}")
        else:
            found.append(redacted(word))
        after_option = option and not sign and names_secret(word)
    return found


def names_secret(name: str) -> bool:
    """Whether a value of this name is a secret, such as `hub_token` or `WANDB_API_KEY`."""
    return _NAME.search(name) is not None
