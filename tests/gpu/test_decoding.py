"""Decoding by captured CUDA graphs gives the tokens of transformers' ``generate`` and of eager steps, on a real GPU."""

import pytest
import torch
from helpers.batches import prompts_of, recomputed
from helpers.gpu import NEEDS_GPU, bf16
from helpers.kinds import ADAPTERS, FAST, NEW, PROMPTS, SAMPLER, moved, policy_of, policy_with, replaced, with_many_ends

from grouprl import GroupSampler, LoraAdapter
from grouprl.policy.engine.graphs import CudaCapture

pytestmark = NEEDS_GPU


def captured(policy):
    """How many steps were captured and are kept."""
    return len(policy._kept["decoding"].captured)


def generated(policy, ids):
    """Greedy completion of one prompt alone by transformers."""
    out = policy.model.generate(
        torch.tensor([ids], device="cuda"),
        do_sample=False,
        max_new_tokens=NEW,
        pad_token_id=0,
        eos_token_id=list(policy.eos_ids),
    )
    return out[0, len(ids) :].tolist()


@pytest.mark.parametrize("name", FAST)
def test_greedy_tokens_are_those_of_generate_on_each_prompt_alone(name):
    policy = with_many_ends(policy_of(name)).to("cuda")
    expected = [generated(policy, ids) for ids in PROMPTS.token_ids]
    rollouts = GroupSampler(max_new_tokens=NEW)(policy, PROMPTS, seed=0, greedy=True)
    rows = zip(rollouts.completion_ids[:, 0], rollouts.completion_mask[:, 0], strict=True)
    assert [ids[mask].tolist() for ids, mask in rows] == expected
    assert captured(policy) >= 1
    assert policy._kept["decoding"].capture is not None  # no capture failed


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bf16-mixed"])
@ADAPTERS
@pytest.mark.parametrize("change", [moved, replaced], ids=["in place", "in new memory"])
def test_samples_are_those_of_eager_steps_after_an_update_too(change, adapter, autocast):
    policy = with_many_ends(policy_with("qwen2", adapter)).to("cuda")
    for _ in range(2):
        with bf16(autocast):
            fast = SAMPLER(policy, PROMPTS, seed=1)
            trainer = recomputed(policy, fast).detach().view_as(fast.sampler_logprobs)
            policy.cuda_graphs = False
            eager = SAMPLER(policy, PROMPTS, seed=1)
            policy.cuda_graphs = True
        mask = fast.completion_mask
        gap = (fast.sampler_logprobs - trainer)[mask].abs()
        if autocast:
            assert gap.mean() < 4e-2
        else:
            assert torch.equal(fast.completion_ids, eager.completion_ids)
            torch.testing.assert_close(fast.sampler_logprobs, eager.sampler_logprobs, atol=1e-5, rtol=0)
            assert gap.max() < 1e-5
        change(policy, 0.05) if change is moved else change(policy)


def test_graphs_are_captured_once_for_all_calls():
    policy = with_many_ends(policy_of("qwen3")).to("cuda")
    SAMPLER(policy, PROMPTS, seed=1)
    memory, before = policy._kept["decoding"], captured(policy)
    moved(policy, 0.05)
    again = SAMPLER(policy, PROMPTS, seed=1)
    assert policy._kept["decoding"] is memory
    assert captured(policy) == before
    policy.release_caches()
    fresh = SAMPLER(policy, PROMPTS, seed=1)
    assert torch.equal(again.completion_ids, fresh.completion_ids)
    assert torch.equal(again.sampler_logprobs, fresh.sampler_logprobs)


def test_the_same_seed_gives_the_same_bits():
    policy = with_many_ends(policy_of("qwen2", adapter=LoraAdapter(rank=4))).to("cuda")
    first, second = (SAMPLER(policy, PROMPTS, seed=3) for _ in range(2))
    assert torch.equal(first.completion_ids, second.completion_ids)
    assert torch.equal(first.sampler_logprobs, second.sampler_logprobs)


def test_drawn_tokens_have_the_distribution_they_are_drawn_from():
    policy = policy_of("qwen2").to("cuda")
    with torch.no_grad():
        logits = policy.model(torch.tensor([PROMPTS.token_ids[0]], device="cuda")).logits[0, -1].float()
    expected = logits.softmax(-1).cpu()
    sampler = GroupSampler(group_size=20_000, max_new_tokens=1, max_sequences=20_000)
    drawn = sampler(policy, prompts_of(PROMPTS.token_ids[0]), seed=5)
    counts = torch.bincount(drawn.completion_ids[0, :, 0].cpu(), minlength=len(expected)).double()
    common = expected * 20_000 >= 5
    chi = ((counts - expected * 20_000) ** 2 / (expected * 20_000))[common].sum()
    degrees = int(common.sum()) - 1
    assert degrees > 20
    assert chi < degrees + 5 * (2 * degrees) ** 0.5  # beyond five standard deviations: one in a million


def test_a_capture_that_fails_is_said_and_eager_steps_go_on(monkeypatch, caplog):
    policy = with_many_ends(policy_of("qwen2")).to("cuda")
    expected = SAMPLER(policy, PROMPTS, seed=1)
    policy.release_caches()

    def waiting(function):
        def run():
            result = function()
            if torch.cuda.is_current_stream_capturing():
                result.sum().item()  # a capture fails at it
            return result

        return run

    call = CudaCapture.__call__
    monkeypatch.setattr(CudaCapture, "__call__", lambda self, function: call(self, waiting(function)))
    actual = SAMPLER(policy, PROMPTS, seed=1)
    assert torch.equal(actual.completion_ids, expected.completion_ids)
    assert "without CUDA graphs" in caplog.text
