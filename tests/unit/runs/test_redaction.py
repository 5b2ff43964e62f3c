"""What is blotted out, and what only looks like it."""

import pytest

from betahead.runs.presets import preset_names, preset_path
from betahead.runs.redaction import names_secret, redacted, redacted_words

TOKEN = "hf_" + "a1B2" * 9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TOKEN, "hf_<redacted>"),
        (f"HF_TOKEN={TOKEN} betahead train", "HF_TOKEN=<redacted> betahead train"),
        ("hub_token: abc", "hub_token: <redacted>"),
        ('{"hub_token": "a b c", "x": 1}', '{"hub_token": <redacted>, "x": 1}'),
        ("WANDB_API_KEY=0123", "WANDB_API_KEY=<redacted>"),
        ("client_secret = s3", "client_secret = <redacted>"),
        ("--token abc --x", "--token <redacted> --x"),
        ("--hub-token=abc", "--hub-token=<redacted>"),
        ("https://me:pass@host/x", "https://<redacted>@host/x"),
        ("sk-" + "9a" * 12, "sk-<redacted>"),
        ("sk-proj-" + "9a_-" * 8, "sk-<redacted>"),
        ("sk-ant-api03-" + "9a_-" * 8, "sk-<redacted>"),
        ("ghp_" + "9a" * 18, "ghp_<redacted>"),
        ("github_pat_" + "9a" * 18, "github_pat_<redacted>"),
        ("AKIA" + "9A" * 8, "AKIA<redacted>"),
        (f"eyJ{'9a' * 6}.eyJ{'9a' * 6}.{'9a' * 6}", "eyJ<redacted>"),
        ("Authorization: Bearer 0123456789abc", "Authorization: Bearer <redacted>"),
        ("postgresql+psycopg://me:p%40ss@host:5432/db", "postgresql+psycopg://<redacted>@host:5432/db"),
        ("postgresql://me:p@ss/word@host/db", "postgresql://<redacted>@host/db"),
        ("redis://:pass@host", "redis://<redacted>@host"),
        ("https:/me:pass@host/pairs.jsonl", "https:/<redacted>@host/pairs.jsonl"),
        ("https://s3cr3tword@host/x", "https://<redacted>@host/x"),
        ("https:/s3cr3tword@host/x", "https:/<redacted>@host/x"),
        ("https://s3cr3tword:x-oauth-basic@host/x", "https://<redacted>@host/x"),
        ("https://s3cr3tword:@host/x", "https://<redacted>@host/x"),
        ("git+ssh://s3cr3tword@host/x", "git+ssh://<redacted>@host/x"),
        ("sqlite:///x?password=abc&mode=ro", "sqlite:///x?password=<redacted>"),
        ("smtp_passwd: abc", "smtp_passwd: <redacted>"),
    ],
)
def test_secrets_are_blotted_out(text, expected):
    assert redacted(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "max_new_tokens: 128",
        "ppl_tokens: all",
        "tokens: 2000000",
        "hub_token: null",
        "/data/hf_datasets_of_preferences_2024/x.jsonl",
        "hf-internal-testing/tiny-random-model",
        "https://host:8080/path",
        "https://host?by=user@name",
        "https://host/user@name/pairs@v2",
        "model.name=org/name@v2",
        "betahead train dpo beta.beta=0.1",
        'set `tokenizer.pad_token = tokenizer.eos_token` or `tokenizer.eos_token = "…"`',
        "sk-learn-models-of-preference-data",
        "the Bearer of this message",
    ],
)
def test_settings_and_names_stay(text):
    assert redacted(text) == text


def test_no_preset_changes():
    for name in preset_names():
        text = preset_path(name).read_text(encoding="utf-8")
        assert redacted(text) == text


def test_what_is_blotted_out_stays_so():
    once = redacted(f"hub_token: abc, --token abc {TOKEN} https://me:pass@host 'api_key=x y' https://abc@host")
    assert redacted(once) == once


def test_values_of_secret_variables_are_blotted_out_wherever_they_stand(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("SHORT_TOKEN", "short")
    monkeypatch.setenv("NO_SECRET_AT_ALL", "fedcba9876543210")
    assert redacted("a 0123456789abcdef b") == "a <redacted> b"
    assert redacted("short fedcba9876543210") == "short fedcba9876543210"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--token", "a b", "x"], ["--token", "<redacted>", "x"]),
        (["--token", "--dry-run"], ["--token", "--dry-run"]),
        (["--hub-token=a b"], ["--hub-token=<redacted>"]),
        (["train.hub_token=a b, c"], ["train.hub_token=<redacted>"]),
        (["model.name=https://s3cr3tword@host/x"], ["model.name=https://<redacted>@host/x"]),
        (["--storage", "postgresql://me:a b@host/x"], ["--storage", "postgresql://me:a b@host/x"]),
        (["--storage", "postgresql://me:ab@host/x"], ["--storage", "postgresql://<redacted>@host/x"]),
        (["train", "dpo", "seed=1"], ["train", "dpo", "seed=1"]),
    ],
)
def test_words_of_a_command_are_blotted_out_whole(words, expected):
    assert redacted_words(words) == expected


def test_names_of_secrets_are_told_by_their_end():
    assert all(map(names_secret, ["hub_token", "WANDB_API_KEY", "apikey", "client_secret", "PGPASSWORD", "token"]))
    assert not any(map(names_secret, ["pad_token", "eos_token", "max_new_tokens", "key", "ppl_tokens", "secretary"]))
