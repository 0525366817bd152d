"""Worked examples before training's problems: as turns of the chat or as plain text, the same in every prompt."""

import json

import pytest

from grouprl.cli import evaluate
from grouprl.cli.config.compose import compose_job
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.values import check_values
from grouprl.data.exemplars import read_exemplars
from grouprl.data.problems import ProblemSplits
from grouprl.data.prompts import encode, render
from grouprl.data.rows import Problem
from grouprl.sampling.group import GroupSampler
from grouprl.training.datamodule import PromptDataModule

ROWS = [
    {"problem": "What is 2 + 3?", "solution": "2 + 3 = 5.", "answer": 5},
    {"problem": "What is 4 + 4?", "solution": "It is \\boxed{8}.", "answer": "8"},
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "worked examples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


def test_their_solutions_end_in_a_box_and_have_one_alone(file):
    assert [shot.boxed for shot in read_exemplars(file)] == [
        "2 + 3 = 5. The answer is \\boxed{5}.",
        "It is \\boxed{8}.",
    ]
    assert read_exemplars(None) == ()


def test_they_are_turns_of_the_chat(tiny_policy, file):
    shots = read_exemplars(file)
    text = render(tiny_policy.tokenizer, "What is 7?", exemplars=shots, system="Be brief.")
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 2 + 3?"},
        {"role": "assistant", "content": shots[0].boxed},
        {"role": "user", "content": "What is 4 + 4?"},
        {"role": "assistant", "content": shots[1].boxed},
        {"role": "user", "content": "What is 7?"},
    ]
    assert text == tiny_policy.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert render(tiny_policy.tokenizer, "x") == render(tiny_policy.tokenizer, "x", exemplars=())


def test_they_are_plain_text_in_the_form_of_the_question(tiny_policy, file):
    text = render(tiny_policy.tokenizer, "What is 7?", style="plain", system="Sums.", exemplars=read_exemplars(file))
    assert text == (
        "Sums.\n\nQuestion: What is 2 + 3?\nAnswer: 2 + 3 = 5. The answer is \\boxed{5}.\n\n"
        "Question: What is 4 + 4?\nAnswer: It is \\boxed{8}.\n\nQuestion: What is 7?\nAnswer:"
    )


def test_training_and_held_out_prompts_have_them(tiny_policy, file):
    problems = [Problem("What is 1 + 1?", "2"), Problem("What is 9 - 1?", "8")]
    made = [
        PromptDataModule(
            ProblemSplits(problems[:1], problems[1:]),
            tiny_policy,
            steps=1,
            prompts_per_step=1,
            max_new_tokens=8,
            **shots,
        )
        for shots in ({}, {"exemplars": file})
    ]
    for part in ("train_prompts", "heldout_prompts"):
        bare, with_them = (tiny_policy.tokenizer.decode(getattr(data, part).token_ids[0]) for data in made)
        assert "2 + 3 = 5." not in bare
        assert with_them.count("2 + 3 = 5. The answer is \\boxed{5}.") == 1
        assert with_them.endswith(bare[-20:])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        ("", "the file holds no exemplar"),
        ('{"problem": "1?", "solution": "x"}\n', "line 1: not an exemplar (no answer)"),
    ],
)
def test_a_file_that_holds_none_is_refused_by_name(tmp_path, content, said):
    path = tmp_path / "shots.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"shots\.jsonl") as error:
        read_exemplars(str(path))
    assert said in str(error.value)


@pytest.mark.parametrize("stop", ["[Question,'']", "Question"])
def test_a_stop_that_ends_nothing_or_everything_is_refused(stop):
    with pytest.raises(UsageError, match=r"sampler\.stop"):
        check_values(compose_job("train", [f"sampler.stop={stop}"]))


def test_a_missing_file_is_refused_before_anything_is_loaded():
    with pytest.raises(UsageError, match=r"prompt\.exemplars=nowhere\.jsonl: there is no such file"):
        check_values(compose_job("train", ["prompt.exemplars=nowhere.jsonl"]))


def test_stops_end_completions_of_training(tiny_policy):
    sampler = GroupSampler(group_size=2, max_new_tokens=40, stop=["Step 2"])
    prompts = encode(tiny_policy.tokenizer, [Problem("Find the value of $3 + 4 + 5 + 6$.", "18")])
    rollouts = sampler(tiny_policy, prompts, seed=0)
    assert not any("Step 2" in text for text in rollouts.completions[0])
    assert not rollouts.truncated.any()


def test_a_line_break_is_what_a_command_line_calls_one():
    (config,) = evaluate._compose(["policy=tiny", "prompt=1", r'stop=["\n","\n\nquestion:","\\neq"]'], multirun=False)
    assert GroupSampler(stop=config.stop).stop == ("\n", "\n\nquestion:", r"\neq")
    assert GroupSampler(stop=["a\nb", "c"]).stop == ("a\nb", "c")


def test_a_runs_policy_is_asked_as_it_was_trained_to_be(train, monkeypatch, tmp_path):
    """With its worked examples and its ends for a problem of yours; a benchmark has its own."""
    options = ["prompt.style=plain", "prompt.exemplars=words", 'sampler.stop=["\\n"]', "steps=1", "data.heldout_size=2"]
    assert train(*options, "hydra.run.dir=run", "max_new_tokens=8") == 0
    (config,) = evaluate._compose(["policy=run", "prompt=What is 3 + 4?"], multirun=False)
    assert (config.style, config.exemplars, list(config.stop)) == ("plain", "words", ["\\n"])
    (config,) = evaluate._compose(["policy=run", "prompt=What is 3 + 4?", "exemplars=null", "stop=[x]"], multirun=False)
    assert (config.style, config.exemplars, list(config.stop)) == ("plain", None, ["x"])
    for saved in ("run/policy", f"{tmp_path}/run/policy"):
        (config,) = evaluate._compose([f"policy={saved}", "prompt=What is 3 + 4?"], multirun=False)
        assert (config.style, config.exemplars, list(config.stop)) == ("plain", "words", ["\\n"])
    (config,) = evaluate._compose(["policy=tiny", "prompt=What is 3 + 4?"], multirun=False)
    assert (config.style, config.exemplars) == ("auto", None)
    (config,) = evaluate._compose(["policy=run", "benchmark=tiny"], multirun=False)
    assert (config.style, config.exemplars, list(config.stop)) == ("plain", None, [])
