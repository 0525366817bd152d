"""How a benchmark's problem is asked: language, exemplars, system message, and the room that a context has."""

from helpers.models import bpe_tokenizer
from tokenizers.processors import TemplateProcessing

from grouprl import GroupSampler
from grouprl.data.exemplars import Exemplar
from grouprl.evaluation.benchmarks import BenchmarkProblem, load_benchmark
from grouprl.evaluation.exemplars import exemplars_for
from grouprl.evaluation.prompts import build_prompt, stop_strings
from grouprl.evaluation.runner import Evaluation, EvaluationSettings
from grouprl.policy.load import load_policy


def test_prompts_are_laid_out_in_the_language_of_the_set():
    tokenizer = load_policy("tiny").tokenizer
    english, chinese = load_benchmark("mmlu_stem"), load_benchmark("gaokao_qa")
    problem = BenchmarkProblem("Which?", "B", ("a", "b"))
    text = build_prompt(tokenizer, english, problem, "cot", exemplars=exemplars_for(english, data_dir=".")).text
    assert text.count("Question: ") == 5
    assert text.endswith("Question: Which?\nAnswer Choices: (A) a (B) b\nAnswer:")
    assert "The answer is B.\n\nQuestion:" in text
    assert "\nQuestion:" in stop_strings(english, "cot")
    text = build_prompt(tokenizer, chinese, problem, "cot", exemplars=exemplars_for(chinese, data_dir=".")[:1]).text
    assert text.startswith("问题: ")
    assert "选项：(A) a (B) b\n解答:" in text
    text = build_prompt(tokenizer, english, problem, "tir").text
    assert "programs to solve the problem" in text
    assert "Answer:" not in text
    text = build_prompt(tokenizer, load_benchmark("math500"), problem, "cot").text
    assert "Please reason step by step" in text


def test_with_tools_there_are_no_exemplars_and_a_text_begins_as_its_tokenizer_says():
    tokenizer = bpe_tokenizer(chat=False)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    ids = {"<s>": tokenizer.convert_tokens_to_ids("<s>")}
    processor = TemplateProcessing(single="<s> $A", special_tokens=list(ids.items()))
    tokenizer.backend_tokenizer.post_processor = processor
    benchmark = load_benchmark("gsm8k")
    shots = [Exemplar("1 + 2?", "It is 3.", "3")] * 2
    for mode, count in (("cot", 2), ("tir", 0)):
        prompt = build_prompt(tokenizer, benchmark, BenchmarkProblem("1 + 1?", "2"), mode, exemplars=shots)
        assert (prompt.shots, prompt.token_ids[0]) == (count, ids["<s>"])


def test_a_template_without_a_system_role_is_asked_all_the_same():
    """The message stands before the question."""
    tokenizer = bpe_tokenizer()
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    tokenizer.chat_template = refuses + tokenizer.chat_template
    benchmark = load_benchmark("math500")
    text = build_prompt(tokenizer, benchmark, BenchmarkProblem("1 + 1?", "2"), "cot").text
    assert text.startswith(f"<|im_start|>user\n{benchmark.system}\n\n1 + 1?")


def test_exemplars_give_way_to_a_short_context():
    tokenizer, benchmark = load_policy("tiny").tokenizer, load_benchmark("gsm8k")
    problem = BenchmarkProblem("How many?", "1")
    shots = [
        build_prompt(
            tokenizer, benchmark, problem, "cot", exemplars=exemplars_for(benchmark, data_dir="."), context=context
        ).shots
        for context in (None, 2000, 512)
    ]
    assert shots[0] == 8 > shots[1] > shots[2]
    assert not build_prompt(tokenizer, benchmark, BenchmarkProblem("x" * 2000, "1"), "cot", context=512).fits


def test_a_long_problem_takes_no_room_from_the_others(tiny_policy, tmp_path, monkeypatch):
    """Each prompt's completions have what its own length leaves of the context."""
    asked = []

    def make(**options):
        asked.append(options["max_new_tokens"])
        return GroupSampler(**options)

    problems = [BenchmarkProblem(f"Compute ${text}$.", "3") for text in ("1 + 2", "1 + 2" + " + 0" * 40, "2 + 1")]
    longest = len(build_prompt(tiny_policy.tokenizer, load_benchmark("tiny"), problems[1], "cot").token_ids)
    monkeypatch.setattr(type(tiny_policy), "context", property(lambda self: longest + 20))
    settings = EvaluationSettings(max_new_tokens=80)
    evaluation = Evaluation(tiny_policy, load_benchmark("tiny"), settings, tmp_path, make_sampler=make)
    rows = evaluation.run(problems)
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert asked == [80, 20]
    alone = Evaluation(tiny_policy, load_benchmark("tiny"), settings, tmp_path / "alone").run([problems[0]])
    assert alone[0]["completion"] == rows[0]["completion"]
