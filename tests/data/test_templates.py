"""Chat templates that loop, fail or ignore what they are given, and prompts that are longer than any context."""

import json

import pytest
from helpers.models import bpe_tokenizer, random_model

from grouprl.cli.build import component
from grouprl.cli.config.preflight import check_job
from grouprl.data import prompts, templates
from grouprl.data.exemplars import Exemplar
from grouprl.data.prompts import encode, render
from grouprl.data.rows import Problem
from grouprl.data.templates import DATE
from grouprl.policy.load import load_policy
from grouprl.training.datamodule import PromptDataModule

CHAT = bpe_tokenizer().chat_template
FOREVER = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
SLOW = "{% for i in range(300) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"


def tokenizer_with(template):
    tokenizer = bpe_tokenizer()
    tokenizer.chat_template, tokenizer.name_or_path = template, "some/folder"
    return tokenizer


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for i in range(10**9) %}{% endfor %}" + CHAT, "fails on a question (OverflowError: Range too big"),
        ("{{ 'x' * 2000000000 }}" + CHAT, "fails on a question (MemoryError"),
        ("{{ 'x' * 2000000 }}" + CHAT, "characters for one question"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails on a question (RecursionError"),
        ("{{ raise_exception('no users here') }}", "fails on a question (TemplateError: no users here)"),
        ("{% for m in", "fails on a question (TemplateSyntaxError: "),
        ("{{ messages.first.content }}", "fails on a question (UndefinedError: "),
        ("{{ 1 / 0 }}", "fails on a question (ZeroDivisionError: "),
        ("{{ messages.__class__.__mro__ }}" + CHAT, "fails on a question (SecurityError: "),
        ("<|im_start|>How are you?", "writes the same for different questions"),
        ("{{ messages[-1].content[:80] }}", "writes the same for different questions"),
        ("{{ messages[-1].content[-80:] }}", "writes the same for different questions"),
        ("{{ messages[-1].content | length }}", "writes the same for different questions"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_in_one_line(template, said):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the text is looked at below
        render(tokenizer_with(template), "1 + 1?")
    assert str(refused.value).startswith("the tokenizer some/folder: its chat template ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500
    assert refused.value.__cause__ is None


def test_a_template_that_does_not_end_is_left(monkeypatch):
    monkeypatch.setattr(templates, "TIMEOUT_S", 2.0)
    with pytest.raises(ValueError, match="its chat template does not end within 2 s for 7 short questions"):
        render(tokenizer_with(FOREVER + CHAT), "1 + 1?")


def test_a_template_that_takes_long_for_each_question_is_refused(monkeypatch):
    """A thousand problems would take as many times as long."""
    monkeypatch.setattr(templates, "SLOWEST_S", 0.01)
    monkeypatch.setattr(templates, "TIMEOUT_S", 60.0)
    with pytest.raises(ValueError, match=r"its chat template takes \d+\.\d s of a processor for one question"):
        render(tokenizer_with(SLOW + CHAT), "1 + 1?")


def test_a_template_is_tried_once_and_those_that_ship_are_known(monkeypatch, tiny_policy):
    tokenizer = tokenizer_with("{# once #}" + CHAT)
    wanted = "<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n"
    assert render(tokenizer, "1 + 1?") == wanted
    monkeypatch.setattr(templates, "_written", None)
    assert render(tokenizer, "1 + 1?") == wanted
    assert render(tiny_policy.tokenizer, "1 + 1?") == wanted


def test_a_template_that_is_not_used_may_be_anything():
    assert render(tokenizer_with("{{ 1 / 0 }}"), "1 + 1?", style="plain") == "Question: 1 + 1?\nAnswer:"


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHAT,
        CHAT.replace("in messages %}", "in messages if m.role == 'user' %}"),
    ],
)
def test_a_system_message_that_has_no_place_stands_before_the_problem(template):
    text = render(tokenizer_with(template), "1 + 1?", system="Be brief.")
    assert text == "<|im_start|>user\nBe brief.\n\n1 + 1?<|im_end|>\n<|im_start|>assistant\n"
    assert render(tokenizer_with(CHAT), "1 + 1?", system="Be brief.").startswith(
        "<|im_start|>system\nBe brief.<|im_end|>"
    )


def test_an_error_for_one_problem_alone_names_the_tokenizer():
    template = "{% if 'seven' in messages[-1].content %}{{ 1 / 0 }}{% endif %}" + CHAT
    assert render(tokenizer_with(template), "six?")
    with pytest.raises(ValueError, match=r"the tokenizer some/folder: its chat template cannot be used \(ZeroDivision"):
        render(tokenizer_with(template), "seven?")


LONG = Problem("1 + " * 200_000 + "1 = ?", "200001")
SHORT = Problem("1 + 1 = ?", "2")


class Counted:
    """A tokenizer that notes how much text it is given."""

    def __init__(self, tokenizer):
        self.tokenizer, self.characters = tokenizer, 0
        self.chat_template, self.eos_token_id = None, tokenizer.eos_token_id

    def __call__(self, text, **options):
        self.characters += sum(map(len, [text] if isinstance(text, str) else text))
        return self.tokenizer(text, **options)

    def get_vocab(self):
        return self.tokenizer.get_vocab()


@pytest.mark.parametrize("text", [LONG.problem, "a" * 800_000, "\n" * 800_000, "é" * 800_000])
def test_a_prompt_beyond_the_context_is_not_encoded_whole(text):
    tokenizer = Counted(bpe_tokenizer(chat=False))
    encoded = encode(tokenizer, [SHORT, Problem(text, "1")], style="plain", most_tokens=100)
    assert tokenizer.characters < 20_000
    assert len(encoded.token_ids[1]) > 100
    whole = encode(tokenizer, [SHORT], style="plain")
    assert encoded.token_ids[0] == whole.token_ids[0]


def test_a_long_prompt_that_fits_is_encoded_whole():
    """Many characters a token, so that its beginning alone does not say whether it fits."""
    tokenizer = bpe_tokenizer(chat=False)
    tokenizer.add_tokens(["x" * 1000])
    problem = Problem("x" * 40_000 + "?", "1")
    whole = encode(tokenizer, [problem], style="plain")
    assert len(whole.token_ids[0]) < 100
    assert encode(tokenizer, [problem], style="plain", most_tokens=100) == whole


def test_a_run_refuses_or_drops_such_prompts(tiny_policy):
    from grouprl.data.problems import ProblemSplits

    splits = ProblemSplits([SHORT, LONG], [SHORT])
    options = {"steps": 1, "prompts_per_step": 1, "max_new_tokens": 8, "context": 64}
    with pytest.raises(ValueError, match=r"1 of 2 prompts \(the longest has \d+ tokens or more\) do not fit"):
        PromptDataModule(splits, tiny_policy, **options)
    assert len(PromptDataModule(splits, tiny_policy, **options, overlong="drop").train_prompts) == 1


def test_the_trial_writes_as_the_tokenizer_does():
    """Special tokens that a template writes are given to the process, too."""
    tokenizer = tokenizer_with("{{ eos_token }}{{ messages[-1].content }}{{ eos_token.upper() }}")
    assert render(tokenizer, "1?") == "<|im_end|>1?<|IM_END|>"
    assert prompts.chat_template is templates.chat_template


TURN = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ END }}\n{% endfor %}[assistant] "


@pytest.mark.parametrize(
    ("end", "own", "found"),
    [
        ("<|im_end|>", (), "<|im_end|>"),
        (" <|done|>", ("<|done|>",), "<|done|>"),  # whatever the tokenizer calls its end of sequence
        ("</s>", ("</s>",), "</s>"),
        (" done", (), None),  # words that any text may have
        ("", (), None),
        ("{{ raise_exception('no answers') if m.role == 'assistant' }}", (), None),
    ],
)
def test_the_token_after_an_answer_ends_a_turn(end, own, found):
    tokenizer = tokenizer_with(TURN.replace("{{ END }}", end))
    tokenizer.add_tokens(list(own))
    tokenizer.eos_token = tokenizer.pad_token
    assert templates.end_of_turn(tokenizer) == (found and tokenizer.convert_tokens_to_ids(found))


def test_the_shipped_templates_end_a_turn_as_is_known_of_them(monkeypatch):
    for text in templates._shipped():
        known = templates.chat_template(text, {}, "x").turn_end
        monkeypatch.setattr(templates, "_shipped", tuple)
        assert templates.chat_template(text, {}, "x").turn_end.strip() == known
        monkeypatch.undo()


def test_a_policy_whose_end_of_sequence_is_not_its_templates_end_of_turn(tiny_policy, tiny_prompts):
    """As of a base model, whose template came later: it ends its turns all the same."""
    from grouprl import GroupSampler

    sampler = GroupSampler(group_size=4, max_new_tokens=96)
    before = sampler(tiny_policy, tiny_prompts, seed=3)
    end, tokenizer = tiny_policy.eos_ids, tiny_policy.tokenizer
    assert end == (tokenizer.convert_tokens_to_ids("<|im_end|>"),)
    other = tokenizer.pad_token_id
    assert other not in end
    tokenizer.eos_token = tokenizer.pad_token
    tiny_policy.base.generation_config.eos_token_id = tiny_policy.base.config.eos_token_id = other
    assert tiny_policy.eos_ids == (other, *end)
    after = sampler(tiny_policy, tiny_prompts, seed=3)
    assert after.completions == before.completions
    assert after.truncated.equal(before.truncated)


THINKING = "{% if enable_thinking is defined and not enable_thinking %}<quiet>{% endif %}" + CHAT


def test_values_that_a_template_asks_for_stay_with_it(folder_with, tmp_path):
    policy = load_policy(folder_with(THINKING), chat_template_kwargs={"enable_thinking": False})
    plain = load_policy(folder_with(THINKING))
    quiet, loud = (render(p.tokenizer, "1 + 1?", system="Think.") for p in (policy, plain))
    assert quiet == f"<quiet>{loud}"
    policy.save(tmp_path / "saved")
    assert render(load_policy(str(tmp_path / "saved")).tokenizer, "1 + 1?", system="Think.") == quiet
    with pytest.raises(ValueError, match=r"chat_template_kwargs.thinking: the chat template does not ask for it"):
        load_policy(folder_with(THINKING), chat_template_kwargs={"thinking": False})


def test_such_a_value_is_an_option(folder_with, tmp_path):
    folder = folder_with(THINKING)
    given = ["policy=hf", f"policy.path={folder}"]
    config = check_job("train", [*given, "+policy.chat_template_kwargs.enable_thinking=false"])
    assert render(component(config, "policy").tokenizer, "1 + 1?").startswith("<quiet>")
    assert not render(component(check_job("train", given), "policy").tokenizer, "1 + 1?").startswith("<quiet>")


def test_an_empty_system_message_is_none(tiny_policy):
    for system in ("", None):
        (ids,) = encode(tiny_policy.tokenizer, [Problem("1 + 1?", "2")], system=system).token_ids
        assert "system" not in tiny_policy.tokenizer.decode(ids)
    assert check_job("train", ["prompt.system=''"]).prompt.system == ""


def test_a_name_is_one_that_the_template_asks_for(folder_with, tmp_path):
    """And no word of what it writes; a value may be given again to what was saved."""
    template = "{% if enable_thinking %}<think>{% endif %}" + CHAT
    for name in ("think", "im_start"):
        with pytest.raises(ValueError, match=f"chat_template_kwargs.{name}: the chat template does not ask for it"):
            templates.with_arguments(template, {name: True})
    policy = load_policy(folder_with(template), chat_template_kwargs={"enable_thinking": True})
    policy.save(tmp_path / "saved")
    again = load_policy(str(tmp_path / "saved"), chat_template_kwargs={"enable_thinking": True})
    assert render(again.tokenizer, "1 + 1?") == render(policy.tokenizer, "1 + 1?")
    inner = "{% generation %}{{ think }}{% endgeneration %}"  # a tag that transformers alone knows
    assert templates.with_arguments(inner, {"think": 1}).endswith(inner)


@pytest.mark.parametrize("value", [True, None, "a \"b\" \\ {{ c }} 'd'", 3, [1, "x"]])
def test_values_arrive_as_they_are(value):
    template = templates.with_arguments("{{ thing | tojson }}|{{ messages[0].content }}", {"thing": value})
    written = tokenizer_with(template).apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert json.loads(written.rpartition("|")[0]) == value


@pytest.fixture
def folder_with(tmp_path):
    """A model's folder with a template of one's own."""

    def make(template):
        folder = tmp_path / "model"
        tokenizer = tokenizer_with(template)
        random_model("qwen2", vocab_size=len(tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return str(folder)

    return make


@pytest.mark.parametrize(("single", "before", "behind"), [("<s> $A </s>", 1, 1), ("$A </s>", 0, 1), ("<s> $A", 1, 0)])
def test_a_prompt_does_not_end_in_what_a_tokenizer_puts_behind_a_text(single, before, behind):
    from tokenizers.processors import TemplateProcessing

    tokenizer = bpe_tokenizer(chat=False)
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in ("<s>", "</s>")}
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=list(ids.items()))
    bare = tuple(tokenizer("1 + 1?", add_special_tokens=False)["input_ids"])
    assert len(tokenizer("1 + 1?")["input_ids"]) == before + len(bare) + behind
    assert prompts.token_ids_of(tokenizer, ["1 + 1?"], special=True) == ((ids["<s>"],) * before + bare,)
    assert prompts.token_ids_of(tokenizer, ["1 + 1?"], special=False) == (bare,)


def test_prompts_that_end_in_an_end_are_said_once(caplog, monkeypatch):
    tokenizer = tokenizer_with("{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}")
    for _ in range(2):
        encode(tokenizer, [Problem("1 + 1?", "2"), Problem("1 + 2?", "3")])
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("2 of 2 prompts end in '<|im_end|>', at which completions end")
    caplog.clear()
    encode(tokenizer_with(CHAT), [Problem("1 + 1?", "2")])
    assert caplog.text == ""


PARTS = (
    "{% for m in messages %}[{{ m.role }}]{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}"
    "{% endif %}{% endfor %}<|im_end|>{% endfor %}[assistant]"
)
"""Of models that see images: a message is a list of parts."""
DATED = "Today Date: {{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d, %-d %B') }}. " + CHAT


def test_a_template_whose_messages_are_lists_of_parts_is_given_such():
    text = render(tokenizer_with(PARTS), "1 + 1?", system="Be brief.", exemplars=[Exemplar("2 + 2?", "4", "Four.")])
    turns = [
        "[system]Be brief.",
        "[user]2 + 2?",
        "[assistant]" + Exemplar("2 + 2?", "4", "Four.").boxed,
        "[user]1 + 1?",
    ]
    assert text == "<|im_end|>".join(turns) + "<|im_end|>[assistant]"


def test_todays_date_is_the_same_every_day():
    """A run that is taken up tomorrow, and an arm of a study that ends then, would be asked something else."""
    tokenizer = tokenizer_with(DATED)
    text = render(tokenizer, "1 + 1?")
    assert text.startswith("Today Date: 01 Jan 2025 2025-01-01, 01 January. <|im_start|>user")
    assert tokenizer.chat_template == DATED  # it is saved as it was
    assert DATE.isoformat() in text


def test_a_date_of_ones_own_is_a_value_of_the_template():
    template = (
        "{% if not date_string is defined %}{% set date_string = strftime_now('%Y') %}{% endif %}{{ date_string }}"
    )
    assert render(tokenizer_with(template + CHAT), "1?").startswith("2025<|im_start|>")
    given = templates.with_arguments(template + CHAT, {"date_string": "7 May"})
    assert render(tokenizer_with(given), "1?").startswith("7 May<|im_start|>")


def test_where_an_answer_ends_a_chat_without_a_mark_the_next_turn_is_the_end():
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    tokenizer = tokenizer_with(template)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>"]})
    assert templates.end_of_turn(tokenizer) == tokenizer.convert_tokens_to_ids("<|user|>")
