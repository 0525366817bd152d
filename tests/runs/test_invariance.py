"""A gradient does not depend on how a batch is cut, over micro-batches or ranks, nor do completions on ranks."""

import json
import math
import subprocess
import sys

import pytest
import torch
from helpers.paths import TESTS

pytestmark = pytest.mark.slow  # whole runs, in processes of their own


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Results of tests/helpers/ddp_run.py with the given settings, one for each rank; each is run once."""
    folder, done = tmp_path_factory.mktemp("ranks"), {}
    command = [sys.executable, str(TESTS / "helpers" / "ddp_run.py")]
    process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run_once(**settings):
        settings = {"threads": 1, **settings}
        key = json.dumps(settings, sort_keys=True)
        if key not in done:
            out = folder / f"result-{len(done)}"
            process.stdin.write(json.dumps({**settings, "out": str(out)}) + "\n")
            process.stdin.flush()
            while (answer := process.stdout.readline().strip()) and not answer.startswith("status "):
                pass  # what Lightning says of ranks
            assert answer == "status 0", f"ddp_run.py {settings}: {answer}"
            done[key] = [torch.load(f"{out}.{rank}") for rank in range(settings["ranks"])]
        return done[key]

    yield run_once
    process.communicate()


@pytest.fixture
def run(outcomes):
    return outcomes


def distance(first, second):
    return float((first - second).norm() / second.norm())


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
@pytest.mark.parametrize("threads", [1, 2])
def test_micro_batches(run, beta, micro_batch_size, threads):
    whole = run(ranks=1, iterations=1, beta=beta, threads=threads)[0]["gradient"]
    cut = run(ranks=1, iterations=1, beta=beta, micro_batch_size=micro_batch_size, threads=threads)[0]["gradient"]
    assert whole.norm() > 1e-3
    assert distance(cut, whole) < 1e-10


@pytest.mark.parametrize(("beta", "micro_batch_tokens"), [(0.0, 50), (0.1, 200)])
def test_token_limits(run, beta, micro_batch_tokens):
    """50 tokens are one or two sequences, 200 about a group; with a KL term the reference pass is cut, too."""
    whole = run(ranks=1, iterations=1, beta=beta)[0]["gradient"]
    cut = run(ranks=1, iterations=1, beta=beta, micro_batch_tokens=micro_batch_tokens)[0]["gradient"]
    assert not torch.equal(cut, whole)  # it was cut
    assert distance(cut, whole) < 1e-10


@pytest.mark.parametrize("micro_batch_size", [0, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_ranks(run, micro_batch_size, threads):
    """Ragged lengths and unequal token counts: the ranks hold different prompts of different lengths."""
    one = run(ranks=1, iterations=1, threads=threads)[0]["gradient"]
    for result in run(ranks=2, iterations=1, micro_batch_size=micro_batch_size, threads=threads):
        assert distance(result["gradient"], one) < 1e-10


def test_in_float32(run):
    whole = run(ranks=1, iterations=1, dtype="float32")[0]["gradient"]
    assert distance(run(ranks=1, iterations=1, dtype="float32", micro_batch_size=2)[0]["gradient"], whole) < 1e-5
    assert distance(run(ranks=2, iterations=1, dtype="float32")[0]["gradient"], whole) < 1e-5
    for tokens in (50, 200):
        cut = run(ranks=1, iterations=1, dtype="float32", micro_batch_tokens=tokens)[0]["gradient"]
        assert distance(cut, whole) < 1e-5


def test_two_ranks_sample_what_one_samples(run):
    (one,) = run(ranks=1, iterations=1, replay=False, dtype="float32")
    two = run(ranks=2, iterations=1, replay=False, dtype="float32")
    assert two[0]["completions"].keys() == {0, 1}
    assert two[1]["completions"].keys() == {2, 3}
    assert two[0]["completions"] | two[1]["completions"] == one["completions"]
    assert len({text for texts in one["completions"].values() for text in texts}) > 8


def test_two_ranks_log_what_one_logs(run):
    """Means, deviations, maxima and sums over other prompts on each rank are those of one process with all of them."""
    (one,), two = run(ranks=1, iterations=1), run(ranks=2, iterations=1, micro_batch_size=0)
    assert two[0]["metrics"][0].keys() == two[1]["metrics"][0].keys() == one["metrics"][0].keys()
    for name, value in one["metrics"][0].items():
        if not name.startswith(("time/", "memory/", "tokens_per_s")):
            found = [rank["metrics"][0][name] for rank in two]
            assert found[0] == found[1], name
            # The policies of the second epoch differ by rounding, and rounding is all that a mismatch is here.
            assert math.isclose(found[0], value, rel_tol=1e-5, abs_tol=1e-12), f"{name}: {found[0]} and {value}"


def test_twenty_steps_on_recorded_rollouts_give_the_same_metrics(run):
    (one,) = run(ranks=1, iterations=20)
    for other in (run(ranks=2, iterations=20), run(ranks=1, iterations=20, micro_batch_size=3)):
        assert len(other[0]["metrics"]) == 20
        for step, wanted in zip(other[0]["metrics"], one["metrics"], strict=True):
            for name, value in wanted.items():
                if name.startswith("ppo") or name in ("reward", "groups/without_signal", "completion/length"):
                    assert math.isclose(step[name], value, rel_tol=1e-4, abs_tol=1e-9), name
    assert one["metrics"][-1]["ppo/approx_kl"] > 1e-3  # the policy has moved, and the ranks with it


def test_the_same_seed_gives_the_same_bits(run):
    first = run(ranks=1, iterations=2, replay=False, dtype="float32")[0]
    second = run(ranks=1, iterations=2, replay=False, dtype="float32", again=1)[0]
    assert torch.equal(first["gradient"], second["gradient"])
    times = ("time/", "memory/", "tokens_per_s")
    for one, other in zip(first["metrics"], second["metrics"], strict=True):
        assert {k: v for k, v in one.items() if not k.startswith(times)} == {
            k: v for k, v in other.items() if not k.startswith(times)
        }
