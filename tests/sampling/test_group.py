from dataclasses import replace

import pytest
import torch
from helpers.batches import prompts_of, recomputed
from helpers.models import bpe_tokenizer, random_model

from grouprl import GroupSampler, Policy
from grouprl.batch import Experience, Minibatch, Prompts


def policy_of(kind="qwen2", **changes):
    temperature = changes.pop("temperature", 1.0)
    return Policy(random_model(kind, **changes), bpe_tokenizer(), temperature=temperature)


PROMPTS = prompts_of([5, 6, 7, 8, 9], [20, 21], [30, 31, 32])


@pytest.mark.parametrize("kind", ["qwen2", "llama", "gpt2"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_recorded_logprobs_are_the_trainers(kind, temperature):
    policy = policy_of(kind, temperature=temperature)
    rollouts = GroupSampler(group_size=5, max_new_tokens=12)(policy, PROMPTS, seed=3)
    torch.testing.assert_close(recomputed(policy, rollouts), rollouts.sampler_logprobs, atol=1e-5, rtol=0)
    assert (rollouts.sampler_logprobs != 0).sum() == rollouts.lengths.sum()


def test_dropout_is_off_in_sampling_and_training():
    policy = policy_of("qwen2", attention_dropout=0.05)
    policy.train()
    assert any(module.config.attention_dropout == 0.05 for module in policy.modules() if hasattr(module, "config"))
    rollouts = GroupSampler(group_size=4, max_new_tokens=12)(policy, PROMPTS, seed=0)
    ratio = (recomputed(policy, rollouts) - rollouts.sampler_logprobs).exp()
    assert float((ratio - 1).abs().max().detach()) < 1e-5
    assert torch.equal(recomputed(policy, rollouts), recomputed(policy, rollouts))


def test_a_policy_that_is_put_into_training_mode_has_no_dropout():
    """On the plain path, where the model's own dropout would act."""
    policy = policy_of("gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    policy.train()
    rollouts = GroupSampler(group_size=4, max_new_tokens=12)(policy, PROMPTS, seed=0)
    torch.testing.assert_close(recomputed(policy, rollouts), rollouts.sampler_logprobs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["qwen2", "llama", "gpt2"])
def test_greedy_equals_generate(kind):
    policy = policy_of(kind)
    rollouts = GroupSampler(max_new_tokens=10)(policy, PROMPTS, seed=0, greedy=True)
    for row, ids in enumerate(PROMPTS.token_ids):
        expected = policy.model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=10, pad_token_id=0)[
            0, len(ids) :
        ]
        length = int(rollouts.lengths[row, 0])
        assert rollouts.completion_ids[row, 0, :length].tolist() == expected.tolist()[:length]


def always(policy, token, other=None):
    """Make the model put all its mass on one token, whatever comes before."""
    hook = lambda module, args, output: torch.full_like(output, -50.0).index_fill(-1, torch.tensor([token]), 50.0)  # noqa: E731
    policy.model.lm_head.register_forward_hook(hook)
    return policy


def test_mask_runs_through_the_first_end_even_where_pad_is_the_end():
    policy = policy_of()
    policy.tokenizer.pad_token = policy.tokenizer.eos_token
    assert policy.tokenizer.pad_token_id == policy.tokenizer.eos_token_id
    rollouts = GroupSampler(group_size=3, max_new_tokens=30)(policy, PROMPTS, seed=1)
    eos = policy.tokenizer.eos_token_id
    ids, mask = rollouts.completion_ids, rollouts.completion_mask
    assert not rollouts.truncated.all()
    for row, kept, cut in zip(ids.flatten(0, 1), mask.flatten(0, 1), rollouts.truncated.flatten(), strict=True):
        tokens = row[kept].tolist()
        assert eos not in tokens[:-1]
        assert (tokens[-1] == eos) != bool(cut)
    ended = always(policy_of(), 2)
    ended.tokenizer.pad_token = ended.tokenizer.eos_token
    assert (GroupSampler(group_size=2, max_new_tokens=5)(ended, PROMPTS, seed=0).lengths == 1).all()


def test_every_end_of_the_generation_config_counts():
    policy = always(policy_of(), 99)
    sampler = GroupSampler(group_size=2, max_new_tokens=5)
    assert sampler(policy, PROMPTS, seed=0).truncated.all()
    policy.model.generation_config.eos_token_id = [2, 99]
    rollouts = sampler(policy, PROMPTS, seed=0)
    assert not rollouts.truncated.any()
    assert (rollouts.lengths == 1).all()


def test_draws_depend_on_seed_iteration_prompt_and_sample_alone():
    policy = policy_of()
    sampler = GroupSampler(group_size=4, max_new_tokens=8)
    whole = sampler(policy, PROMPTS, seed=0)
    for row in range(3):
        alone = sampler(policy, PROMPTS.take([row]), seed=0)
        width = alone.completion_ids.shape[-1]
        assert torch.equal(alone.completion_mask[0], whole.completion_mask[row, :, :width])
        assert torch.equal(
            alone.completion_ids[0][alone.completion_mask[0]], whole.completion_ids[row][whole.completion_mask[row]]
        )
    in_turns = replace(sampler, max_sequences=4)(policy, PROMPTS, seed=0)
    assert in_turns.completions == whole.completions
    larger = replace(sampler, group_size=6)(policy, PROMPTS, seed=0)
    assert tuple(row[:4] for row in larger.completions) == whole.completions
    assert sampler(policy, PROMPTS, seed=1).completions != whole.completions
    assert sampler(policy, replace(PROMPTS, iteration=1), seed=0).completions != whole.completions


def test_the_sampled_distribution_is_the_models():
    """Chi-square over 20,000 first tokens of a model with eight tokens; 99.9% quantile of chi2(7) is 24.3."""
    policy = policy_of(vocab_size=8, temperature=0.7)
    draws = 20_000
    prompts = Prompts(("p",), ("1",), ((5, 6),), (0,))
    rollouts = GroupSampler(group_size=draws, max_new_tokens=1, max_sequences=draws)(policy, prompts, seed=0)
    with torch.no_grad():
        expected = (policy.model(torch.tensor([[5, 6]])).logits[0, -1] / 0.7).double().softmax(-1) * draws
    counts = rollouts.completion_ids.flatten().bincount(minlength=8)
    assert float(((counts - expected).square() / expected).sum()) < 24.3


@pytest.mark.parametrize("changes", [{"top_k": 20}, {"top_p": 0.9}])
def test_truncated_sampling_is_refused(changes):
    (key,) = changes
    with pytest.raises(ValueError, match=f"sampler.{key}"):
        GroupSampler(**changes)


def test_a_prompt_longer_than_the_context_is_refused():
    policy = policy_of(max_position_embeddings=16)
    with pytest.raises(ValueError, match=r"max_new_tokens=12.*context of 16.*max_new_tokens=11"):
        GroupSampler(max_new_tokens=12)(policy, PROMPTS, seed=0)


def test_rollouts_become_a_minibatch_row_by_row(tiny_policy, tiny_prompts):
    rollouts = GroupSampler(group_size=3, max_new_tokens=40)(tiny_policy, tiny_prompts, seed=0)
    advantages = torch.arange(18.0).view(6, 3)
    experience = Experience(rollouts, advantages, torch.ones(6, 3, dtype=torch.bool))
    batch = experience.minibatch(torch.tensor([4, 1]), torch.ones(2, 3))
    assert isinstance(batch, Minibatch)
    assert batch.loss_inputs.advantages.tolist() == [12, 13, 14, 3, 4, 5]
    assert torch.equal(batch.completion_ids[4], rollouts.completion_ids[1, 1])
    assert torch.equal(batch.prompt_ids[5], rollouts.prompt_ids[1])
    texts = tiny_policy.tokenizer.batch_decode(batch.completion_ids[:3], skip_special_tokens=True)
    assert tuple(texts) == rollouts.completions[4]


def test_equal_prompts_and_the_samples_of_one_are_drawn_apart():
    prompts = prompts_of([5, 6, 7], [5, 6, 7])
    rollouts = GroupSampler(group_size=4, max_new_tokens=8)(policy_of(), prompts, seed=0)
    assert len(set(map(tuple, rollouts.completion_ids.flatten(0, 1).tolist()))) == 8


def test_an_end_at_the_limit_is_no_truncation():
    sampler = GroupSampler(group_size=2, max_new_tokens=1)
    assert not sampler(always(policy_of(), 2), PROMPTS, seed=0).truncated.any()
    assert sampler(always(policy_of(), 99), PROMPTS, seed=0).truncated.all()
