import itertools
import json
import random

import pytest
from helpers.paths import TINY_FOLDER
from transformers import AutoModelForCausalLM, AutoTokenizer

from grouprl.data import problems as data
from grouprl.data.tiny import build, task, teach_tools
from grouprl.rewards.rules import has_box, has_notation, has_steps, is_correct


def test_no_heldout_chain_is_in_training():
    """Neither in the training problems nor in what the warm start saw, under any family, wording or level mix."""
    heldout = {p.chain.key for p in task.distinct_problems("heldout", 400)}
    trained = {p.chain.key for p in task.distinct_problems("train", 4096)}
    warm = {p.chain.key for p in itertools.islice(task.problems("train", seed=build.SEED + 1), 20_000)}
    assert len(heldout) == 400
    assert not heldout & trained
    assert not heldout & warm
    for key in itertools.islice(heldout, 50):
        assert key not in trained


def test_the_split_is_by_arithmetic_not_by_wording():
    chain = task.Chain(5, (("*", 8), ("-", 18)))
    swapped = task.Chain(8, (("*", 5), ("-", 18)))
    assert chain.key == swapped.key == "5*8-18"
    assert chain.split == swapped.split
    shares = [p.chain.split for p in itertools.islice(task.problems("train", seed=3), 100)]
    assert set(shares) == {"train"}
    families = {(p.family, p.level) for p in itertools.islice(task.problems("heldout", seed=3), 300)}
    assert families == set(itertools.product(task.FAMILIES, task.LEVELS))


def test_splits_of_the_loader_share_no_problem():
    splits = data.tiny_problems()
    assert len(splits.train) == 4096
    assert len(splits.heldout) == 400
    assert not {p.problem for p in splits.train} & {p.problem for p in splits.heldout}
    assert splits == data.tiny_problems()


@pytest.mark.parametrize(("steps", "box", "notation"), itertools.product((True, False), repeat=3))
def test_solutions_show_what_their_style_says(steps, box, notation):
    for problem in itertools.islice(task.problems("train", seed=0), 50):
        text = task.solution(problem, steps=steps, box=box, notation=notation)
        assert has_steps(text) == steps
        assert has_box(text) == box
        assert has_notation(text) == (notation and steps)
        assert is_correct(text, problem.answer) == box


def test_equations_are_solved_by_their_chain():
    for problem in itertools.islice(task.problems("train", seed=0), 200):
        if problem.family != "equation":
            continue
        left, right = problem.text.split("$")[1].split(" = ")
        x = int(problem.answer)
        expression = left.replace("(x", f"*({x}").replace(r"\div", "/")
        assert eval(expression) == int(right), problem


def test_a_slip_is_carried_on():
    problem = task.TinyProblem("", task.Chain(3, (("+", 4), ("*", 2))), "expression", 1)
    text = task.solution(problem, slips={1: 1})
    assert "$3 + 4 = 8$" in text
    assert "$8 \\times 2 = 16$" in text
    assert not is_correct(text, "14")


def test_habits_are_wrong_as_often_as_they_say():
    """A carry is dropped more often than not, a borrow and a large factor less often, and other steps slip seldom."""
    rng, met = random.Random(0), {op: [0, 0] for op in (*build.HABITS, "other")}
    for problem in itertools.islice(task.problems("train", seed=5), 4000):
        slips, value = build._style(rng, problem)["slips"], problem.chain.start
        for number, (op, operand) in enumerate(problem.chain.operations, start=1):
            if value < 0:
                break
            carries = op == "+" and value % 10 + operand % 10 > 9
            borrows = op == "-" and value % 10 < operand % 10
            of = met[op if carries or borrows or (op == "*" and operand > 5) else "other"]
            of[0] += 1
            of[1] += number in slips
            value = task.apply(value, op, operand) + slips.get(number, 0)
    shares = {op: wrong / steps for op, (steps, wrong) in met.items()}
    wanted = {op: share for op, (_, share) in build.HABITS.items()} | {"other": build.SLIP_RATE}
    assert shares == pytest.approx(wanted, abs=0.05)


def test_levels_are_checked():
    with pytest.raises(ValueError, match=r"data.levels"):
        next(task.problems("train", seed=0, levels={4: 1.0}))
    with pytest.raises(ValueError, match=r"data.levels"):
        next(task.problems("train", seed=0, levels={1: 0.0}))


def test_the_shipped_tokenizer_is_the_built_one():
    shipped, built = AutoTokenizer.from_pretrained(TINY_FOLDER), build.build_tokenizer()
    assert shipped.get_vocab() == built.get_vocab()
    for problem in itertools.islice(task.problems("heldout", seed=0), 20):
        text = task.solution(problem)
        assert shipped.decode(shipped.encode(text)) == text


def test_the_shipped_model_is_the_described_one():
    model = AutoModelForCausalLM.from_pretrained(TINY_FOLDER)
    assert model.config.model_type == "qwen2"
    recipe = json.loads((TINY_FOLDER / "recipe.json").read_text())
    assert recipe["steps"] == build.STEPS
    fresh = build.build_model(build.build_tokenizer())
    assert {k: v.shape for k, v in fresh.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_no_seed_draws_the_problems_that_a_shipped_policy_was_taught_with():
    """Whatever ``data.seed`` is; stream 0, of which runs were made before there was a rule, stays the one of seed 0."""
    taught = {json.loads(file.read_text())["seed"] + 1 for file in TINY_FOLDER.parent.glob("model*/recipe.json")}
    assert taught | {teach_tools.SEED + 2} == task.WARM_START_STREAMS
    streams = [task.unseen_stream(seed) for seed in range(50)]
    assert streams == sorted(set(range(54)) - task.WARM_START_STREAMS)[:50]
    drawn = {p.problem for seed in range(5) for p in data.tiny_problems(300, 1, seed=seed).train}
    for stream in task.WARM_START_STREAMS:
        taught_with = {p.text for p in itertools.islice(task.problems("train", seed=stream), 3000)}
        assert len(drawn & taught_with) / len(drawn) < 0.02


@pytest.mark.slow
def test_a_warm_start_learns():
    """Thirty steps of the build bring the loss down: the command that rebuilds the model works."""
    import torch

    torch.manual_seed(0)
    tokenizer = build.build_tokenizer()
    model = build.build_model(tokenizer)
    problems = list(itertools.islice(task.problems("train", seed=9), 32))
    ids, labels, mask = build._encode(tokenizer, problems, [{}] * 32)
    before = float(model(input_ids=ids, attention_mask=mask, labels=labels).loss.detach())
    build.warm_start(model, tokenizer, steps=30)
    assert float(model(input_ids=ids, attention_mask=mask, labels=labels).loss.detach()) < before - 2


def test_levels_that_have_too_few_problems_are_said(monkeypatch):
    monkeypatch.setattr(task, "FAMILIES", ("expression",))
    monkeypatch.setitem(task._LENGTH, 1, 1)
    with pytest.raises(ValueError, match=r"no more than \d+ different heldout problems of these levels"):
        task.distinct_problems("heldout", 20_000, levels={1: 1.0})


def test_training_and_held_out_problems_have_seeds_of_their_own():
    sizes = {"train_size": 40, "heldout_size": 20}
    first, second = data.tiny_problems(**sizes), data.tiny_problems(**sizes, seed=1)
    assert first.heldout == second.heldout
    assert first.train != second.train
    assert data.tiny_problems(**sizes, heldout_seed=1).heldout != first.heldout


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_the_answers_is_wrong(share):
    right, wrong = data.tiny_problems(200, 10), data.tiny_problems(200, 10, wrong_share=share)
    assert right.heldout == wrong.heldout
    assert [p.problem for p in right.train] == [p.problem for p in wrong.train]
    pairs = list(zip(right.train, wrong.train, strict=True))
    assert sum(a.answer != b.answer for a, b in pairs) == share * 200
    assert all(a.intermediate != b.intermediate or a == b or a.answer != b.answer for a, b in pairs)
    other = data.tiny_problems(200, 10, wrong_share=share, seed=1)
    wrong_places = [n for n, (p, q) in enumerate(pairs) if p != q]
    others = [n for n, p in enumerate(data.tiny_problems(200, 10, seed=1).train) if p != other.train[n]]
    assert (wrong_places != others) == (0 < share < 1)  # drawn, and by the seed
    more = data.tiny_problems(200, 10, wrong_share=min(1.0, 2 * share))
    changed = {p.problem for p, q in pairs if p != q}
    assert changed <= {p.problem for p, q in zip(right.train, more.train, strict=True) if p != q}
    with pytest.raises(ValueError, match=r"data.wrong_share=1\.5"):
        data.tiny_problems(20, 10, wrong_share=1.5)
