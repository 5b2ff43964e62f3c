from copy import copy

import pytest
from transformers import PreTrainedTokenizerFast

from betahead.data.formats import Pair
from betahead.data.rows import RowError
from betahead.data.templates import PromptRenderer, check_tokenizer
from betahead.errors import ConfigError, DataError


def pair(prompt, chosen="good", rejected="bad", **fields):
    return Pair(prompt=prompt, chosen=chosen, rejected=rejected, where="f.jsonl:1", **fields)


def user(text):
    return {"role": "user", "content": text}


def with_template(tokenizer, template):
    copy = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, eos_token=tokenizer.eos_token, pad_token=tokenizer.pad_token
    )
    copy.chat_template = template
    return copy


def words(rendered):
    return [rendered.prompt[start:stop] for start, stop in rendered.contents]


def test_qwen_ends_a_turn_with_its_own_token_not_with_eos(qwen):
    renderer = PromptRenderer(qwen)
    assert renderer.end_text == "<|im_end|>"
    assert renderer.end_ids == (qwen.convert_tokens_to_ids("<|im_end|>"),)
    assert qwen.eos_token == "<|endoftext|>"


def test_r1_ends_a_turn_with_its_end_of_sentence(r1):
    renderer = PromptRenderer(r1)
    assert renderer.end_text == "<｜end▁of▁sentence｜>"
    assert renderer.end_ids == (r1.eos_token_id,)


def test_a_template_without_an_end_of_turn_ends_with_eos(plain):
    bare = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    assert PromptRenderer(with_template(plain, bare)).end_ids == (plain.eos_token_id,)


def test_an_end_of_turn_of_several_tokens_is_kept_whole(plain):
    wordy = "{% for m in messages %}{{ m.role }}: {{ m.content }} ### end\n{% endfor %}"
    tokenizer = with_template(plain, wordy)
    renderer = PromptRenderer(tokenizer)
    assert tokenizer.decode(renderer.end_ids) == "### end"


def test_prompts_go_through_the_template_with_its_generation_prompt(qwen, r1):
    rendered = PromptRenderer(qwen).render(pair("Hi"))
    assert rendered.prompt == (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    rendered = PromptRenderer(r1).render(pair((user("Hi"),)))
    assert rendered.prompt == "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜><think>\n"
    assert (rendered.chosen, rendered.rejected) == ("good", "bad")


def test_without_a_template_texts_stay_as_they_are(qwen, plain):
    for renderer in (PromptRenderer(qwen, "none"), PromptRenderer(plain)):
        rendered = renderer.render(pair("Hi "))
        assert (rendered.prompt, rendered.chosen) == ("Hi ", "good")
        assert renderer.end_ids == (renderer.tokenizer.eos_token_id,)
        assert renderer.render(pair((user("Hi"),))).prompt == "Hi"


def test_a_transcript_keeps_its_text_form_without_a_template(plain):
    conversation = (user("Q"), {"role": "assistant", "content": "A"}, user("R"))
    transcript = "\n\nHuman: Q\n\nAssistant: A\n\nHuman: R\n\nAssistant:"
    rendered = PromptRenderer(plain).render(pair(conversation, transcript=transcript))
    assert rendered.prompt + rendered.chosen == transcript + " good"
    assert words(rendered) == [" Q", " A", " R"]


def test_what_a_tokenizer_puts_before_a_text_is_known_and_what_it_puts_after_is_not_used(framed, qwen):
    assert PromptRenderer(framed).start_ids == (framed.bos_token_id,)
    assert PromptRenderer(qwen).start_ids == ()
    assert PromptRenderer(qwen, "none").start_ids == ()


def test_contents_are_found_even_where_they_repeat_the_template_s_words(qwen, r1):
    conversation = ({"role": "system", "content": "user"}, user("user\n"), {"role": "assistant", "content": "system"})
    rendered = PromptRenderer(qwen).render(pair((*conversation, user("assistant"))))
    assert words(rendered) == ["user", "user\n", "system", "assistant"]
    thinking = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nParis"}
    rendered = PromptRenderer(r1).render(pair((user("Where?"), thinking, user("Sure?"))))
    assert words(rendered) == ["Where?", "\n\nParis", "Sure?"]


def test_contents_of_a_template_that_rewrites_them_are_unknown(plain):
    shouting = "{% for m in messages %}{{ m.content | upper }}<eos>{% endfor %}"
    with pytest.raises(DataError) as caught:
        PromptRenderer(with_template(plain, shouting))
    assert str(caught.value) == (
        "the tokenizer's chat template must write out an assistant message, but drops it; correct it or set "
        "`data.prompt_template: none`."
    )
    half = "{% for m in messages %}{{ m.content | replace('a', 'o') }}<eos>{% endfor %}"
    assert PromptRenderer(with_template(plain, half)).render(pair("cat")).contents is None


def test_an_answer_s_opening_think_is_not_written_twice(r1, qwen):
    rendered = PromptRenderer(r1).render(pair("Q", "<think>\nhm</think>\nYes", "No"))
    assert (rendered.chosen, rendered.rejected, rendered.reopened) == ("hm</think>\nYes", "No", True)
    rendered = PromptRenderer(qwen).render(pair("Q", "<think>\nhm</think>\nYes", "No"))
    assert (rendered.chosen, rendered.reopened) == ("<think>\nhm</think>\nYes", False)


def test_an_answer_s_own_end_of_turn_is_taken_off(qwen):
    rendered = PromptRenderer(qwen).render(pair("Q", "Yes<|im_end|>\n", "No"))
    assert (rendered.chosen, rendered.rejected) == ("Yes", "No")


def test_a_row_that_the_template_refuses_says_so(plain):
    strict = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system message') }}{% endif %}"
        "{% for m in messages %}{{ m.content }}<eos>{% endfor %}"
    )
    renderer = PromptRenderer(with_template(plain, strict))
    with pytest.raises(RowError) as caught:
        renderer.render(pair(({"role": "system", "content": "S"}, user("Q"))))
    assert str(caught.value) == (
        "f.jsonl:1: the messages must fit the tokenizer's chat template, but it refuses the roles system, user (no "
        "system message); correct or remove the row."
    )


def test_a_template_that_cannot_render_an_answer_is_refused(plain):
    with pytest.raises(DataError) as caught:
        PromptRenderer(with_template(plain, "{{ raise_exception('not today') }}"))
    assert str(caught.value) == (
        "the tokenizer's chat template must render a question and its answer, but fails (not today); correct it or set "
        "`data.prompt_template: none`."
    )


def test_a_conversation_needs_a_template(plain, qwen):
    conversation = ({"role": "system", "content": "S"}, user("Q"))
    with pytest.raises(DataError) as caught:
        PromptRenderer(plain).render(pair(conversation))
    name = plain.name_or_path or "TokenizersBackend"
    assert str(caught.value) == (
        f"f.jsonl:1: a conversation of 2 messages must go through a chat template, but with the tokenizer {name} it "
        "has no chat template; set `tokenizer.chat_template` (and `data.prompt_template: auto`) or give prompts as "
        "text."
    )
    with pytest.raises(DataError, match=r"`data\.prompt_template` is `none`; set"):
        PromptRenderer(qwen, "none").render(pair(conversation))


def test_a_tokenizer_without_eos_or_pad_is_refused(plain):
    name = type(plain).__name__
    with pytest.raises(DataError) as caught:
        check_tokenizer(PreTrainedTokenizerFast(tokenizer_object=plain.backend_tokenizer, pad_token="<pad>"))
    assert str(caught.value) == (
        f"the tokenizer must have an end-of-sequence token, but {name} has none; name one that its vocabulary holds, "
        '`tokenizer.eos_token = "…"`, and save it again.'
    )
    with pytest.raises(DataError) as caught:
        check_tokenizer(PreTrainedTokenizerFast(tokenizer_object=plain.backend_tokenizer, eos_token="<eos>"))

    assert str(caught.value) == (
        f"the tokenizer must have a padding token, but {name} has none; set `tokenizer.pad_token = "
        "tokenizer.eos_token` (padding is masked everywhere) and save it again."
    )


@pytest.mark.parametrize("longest", ["auto", True, [1]])
def test_a_tokenizer_must_know_its_longest_text(plain, longest):
    plain = copy(plain)
    plain.model_max_length = longest
    with pytest.raises(DataError, match=r"`model_max_length` of the tokenizer .* must be a number, but is"):
        check_tokenizer(plain)


def test_another_prompt_template_is_refused(plain):
    with pytest.raises(ConfigError) as caught:
        PromptRenderer(plain, "chatml")
    assert str(caught.value) == (
        "`data.prompt_template` must be `auto` or `none`, but is 'chatml' instead; `auto` uses the tokenizer's chat "
        "template if it has one, `none` the prompt's text as it is."
    )
