"""Tools: the text protocol, and tool use while sampling and training."""

import pytest
import torch

from grouprl import GroupSampler, PolicyLoss, RankAdvantage, load_policy
from grouprl.batch import Experience
from grouprl.sampling import rounds
from grouprl.sampling.decoding import Decoder
from grouprl.sampling.rounds import ToolRounds
from grouprl.sampling.transcript import OUTPUT_FENCE, output_text, pending_code, shorten
from grouprl.sandbox.sandbox import Sandbox, SandboxError, ToolOutput
from grouprl.training.records import read_metrics


def test_the_protocol():
    text = "First\n```python\nx = 1\n```\nthen\n```python\nprint(2)\n```\n```output"
    assert pending_code(text) == "print(2)"
    assert pending_code("no code ```output") is None
    assert pending_code("```python\n1\n```") is None
    assert output_text(ToolOutput(" 2\n", "ok", 0.1)) == "\n2\n```\n"
    assert shorten("a" * 200 + "b" * 50 + "c" * 200) == "a" * 200 + "..." + "c" * 200
    assert shorten("abc") == "abc"


class Scripted:
    """A policy's stand-in for the tools: the sandbox itself is tested in test_tools_sandbox.py."""

    def __init__(self):
        self.codes = []

    def map(self, codes):
        self.codes += codes
        return [ToolOutput("42", "ok", 0.0) for _ in codes]


def tool_prompts(count=4):
    from grouprl.data import prompts
    from grouprl.data.messages import TOOLS
    from grouprl.data.rows import Problem
    from grouprl.data.tiny.task import hard_problems

    policy = load_policy("tiny_tools")
    problems = [Problem(p.text, p.answer) for p in hard_problems("heldout", count)]
    return policy, prompts.encode(policy.tokenizer, problems, system=TOOLS)


def test_the_policy_writes_the_tool_answers_and_the_policy_goes_on():
    policy, prompts = tool_prompts()
    tool = Scripted()
    sampler = GroupSampler(group_size=3, max_new_tokens=120, tools=ToolRounds(sandbox=tool))
    rollouts = sampler(policy, prompts, seed=1)
    assert len(tool.codes) >= 10
    assert len(rollouts.tool_calls) >= 10
    drawn, mask = rollouts.drawn, rollouts.completion_mask
    assert bool((drawn <= mask).all())
    assert int((mask & ~drawn).sum()) > 0
    tool_tokens = rollouts.completion_ids[0, 0][(mask & ~drawn)[0, 0]]
    assert policy.tokenizer.decode(tool_tokens) == "\n42\n```\n"
    assert r"\boxed{42}" in rollouts.completions[0][0]
    assert bool((rollouts.sampler_logprobs[~drawn] == 0).all())


def test_tool_rounds_are_the_same_draws_as_one_go_up_to_the_tool():
    policy, prompts = tool_prompts(2)
    plain = GroupSampler(group_size=2, max_new_tokens=120, stop=(OUTPUT_FENCE,))(policy, prompts, seed=5)
    sampler = GroupSampler(group_size=2, max_new_tokens=120, tools=ToolRounds(sandbox=Scripted()))
    first, second = sampler(policy, prompts, seed=5), sampler(policy, prompts.take([1]), seed=5)
    for row in range(2):
        length = int(plain.lengths[row, 0])
        assert torch.equal(first.completion_ids[row, 0, :length], plain.completion_ids[row, 0, :length])
    assert first.completions[1] == second.completions[0]


def test_tool_tokens_get_no_gradient_and_drawn_ones_do():
    """Perturbing what a tool token's own logit contributes changes nothing; the ratio is 1 at the first step."""
    policy, prompts = tool_prompts()
    sampler = GroupSampler(group_size=4, max_new_tokens=120, tools=ToolRounds(sandbox=Scripted()))
    rollouts = sampler(policy, prompts, seed=3)
    rewards = torch.arange(16.0).view(4, 4)
    experience = Experience(rollouts, RankAdvantage()(rewards), torch.ones(4, 4, dtype=torch.bool))
    assert torch.equal(experience.mask, rollouts.drawn)
    batch = experience.minibatch(torch.arange(4), torch.full((4, 4), 1 / 16))
    logprobs = policy.logprobs(batch).logprobs
    leaf = logprobs.detach().requires_grad_()
    PolicyLoss()(leaf, batch.loss_inputs).loss.backward()
    tool = batch.completion_mask & ~batch.drawn
    assert int(tool.sum()) > 0
    assert bool((leaf.grad[tool] == 0).all())
    trained = batch.drawn & (batch.loss_inputs.advantages != 0).unsqueeze(-1)
    assert bool((leaf.grad[trained] != 0).all())
    difference = (logprobs - batch.loss_inputs.old_logprobs)[batch.drawn]
    assert float(difference.detach().abs().max()) < 1e-4


def test_rounds_are_bounded():
    policy, prompts = tool_prompts(1)

    class Asking(Scripted):
        def map(self, codes):
            self.codes += codes
            return [ToolOutput("1\n```\n```python\n2\n```\n```output", "ok", 0.0) for _ in codes]

    tool = Asking()
    sampler = GroupSampler(group_size=2, max_new_tokens=200, tools=ToolRounds(rounds=2, sandbox=tool))
    rollouts = sampler(policy, prompts, seed=0, greedy=True)
    assert len(tool.codes) <= 2
    assert rollouts.completion_mask.shape[-1] <= 200


@pytest.mark.slow
def test_twenty_steps_of_training_with_tools(python, train, tmp_path):
    """Code that the policy writes is run while it is trained; what it logs says how often."""
    options = ["steps=20", "max_new_tokens=96"]
    small = ["prompts_per_step=2", "group_size=4", "minibatches=2", "ppo_epochs=1", "eval_every=0", "warmup_steps=0"]
    assert train(*options, "experiment=tools", *small, "data.train_size=32", "data.heldout_size=4", small=False) == 0
    (run,) = (tmp_path / "runs").iterdir()
    rows = [row for row in read_metrics(run) if "tools/calls" in row]
    assert len(rows) == 20
    assert sum(row["tools/calls"] for row in rows) > 5
    assert all(0 <= row["tools/error"] <= 1 for row in rows)
    assert all(row["mismatch/max_deviation"] < 1e-3 for row in rows)


def test_a_later_round_goes_on_in_its_stream_of_random_numbers(monkeypatch):
    """What a policy draws after a tool is not drawn with the numbers that made the program."""
    policy, prompts = tool_prompts(2)
    seen = []

    class Watched(rounds.Decoder):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            seen.append((options["skip"], self))

    monkeypatch.setattr(rounds, "Decoder", Watched)
    sampler = GroupSampler(group_size=2, max_new_tokens=120, tools=ToolRounds(sandbox=Scripted()))
    sampler(policy, prompts, seed=2)
    (skip, first), (later, second) = seen[:2]
    assert skip == [0] * 4
    waiting = [row for row in range(4) if bool(first.stopped[row])]
    assert later == [int(first.lengths[row]) for row in waiting]
    assert min(later) > 0
    fresh = Decoder(policy, prompts.token_ids, 2, 120, keys=[(2, 0, i, s) for i in range(2) for s in range(2)]).uniforms
    width = min(second.uniforms.shape[1], fresh.shape[1] - max(later))
    for number, row in enumerate(waiting):
        start = later[number]
        assert torch.equal(second.uniforms[number, :width], fresh[row, start : start + width])


def test_a_run_whose_sandbox_cannot_be_enforced_ends_with_one_line(train, tmp_path, monkeypatch, capsys):
    def run(self, code):
        raise SandboxError("the sandbox cannot be enforced on this machine: no namespaces.")

    monkeypatch.setattr(Sandbox, "run", run)
    assert train("experiment=tools", "max_new_tokens=96") == 1
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert ": the sandbox cannot be enforced on this machine: no namespaces.\nAfter mending it: " in told
    (folder,) = (tmp_path / "runs").iterdir()
    assert '"state": "failed"' in (folder / "result.json").read_text()
