"""Sampled tokens follow the distribution they are drawn from."""

import numpy as np
import pytest
import torch
from helpers.batches import prompts_of
from helpers.kinds import KINDS
from helpers.models import bpe_tokenizer, random_model

from grouprl import GroupSampler, Policy
from grouprl.sampling.decoding import draw


def chi_square(counts, expected):
    """Chi-square over bins of five and more, the others as one; and its 99.9% quantile (Wilson and Hilferty 1931)."""
    large = expected >= 5
    bins = [torch.cat([part[large], part[~large].sum().unsqueeze(0)]).double() for part in (counts, expected)]
    counts, expected = (part[bins[1] > 0] for part in bins)
    freedom = len(expected) - 1
    bound = freedom * (1 - 2 / (9 * freedom) + 3.0902 * (2 / (9 * freedom)) ** 0.5) ** 3
    return float(((counts - expected).square() / expected).sum()), bound


def test_draws_of_a_large_vocabulary_follow_its_distribution():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1000, generator=generator)
    impossible = torch.tensor([0, 255, 256, 511, 512, 700, 999])
    logits[impossible] = -torch.inf
    uniforms = torch.from_numpy(np.random.default_rng(0).random(60_000))
    tokens = torch.cat([draw(logits.expand(len(part), -1), part)[0] for part in uniforms.split(2000)])
    counts = tokens.bincount(minlength=1000)
    assert counts[impossible].sum() == 0
    statistic, bound = chi_square(counts, logits.double().softmax(-1) * len(uniforms))
    assert statistic < bound


def test_draws_are_the_plain_inversion_in_float64():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 1000, generator=generator)
    uniforms = torch.from_numpy(np.random.default_rng(1).random(4000))
    tokens, logprobs = draw(logits, uniforms)
    cumulative = logits.double().softmax(-1).cumsum(-1)
    expected = torch.searchsorted(cumulative, uniforms.unsqueeze(-1), right=True).squeeze(-1)
    clear = (cumulative - uniforms.unsqueeze(-1)).abs().amin(-1) > 1e-6
    assert clear.sum() > 3900
    assert torch.equal(tokens[clear], expected[clear])
    assert (tokens - expected).abs().max() <= 1
    log_softmax = logits.log_softmax(-1)
    torch.testing.assert_close(logprobs, log_softmax.gather(-1, tokens.unsqueeze(-1))[:, 0], atol=1e-6, rtol=1e-6)
    greedy, greedy_logprobs = draw(logits, None)
    assert torch.equal(greedy, logits.argmax(-1))
    torch.testing.assert_close(greedy_logprobs, log_softmax.amax(-1), atol=1e-6, rtol=1e-6)


def test_extreme_uniforms_draw_the_first_and_last_possible_token():
    logits = torch.randn(300, 1000, generator=torch.Generator().manual_seed(0))
    logits[:, :257] = logits[:, 600:] = -torch.inf
    logits[100:, 257:] = logits[100:, :1] = -torch.inf
    logits[100:, 3:250] = 0.0
    lowest = torch.zeros(300, dtype=torch.float64)
    highest = torch.full_like(lowest, float(np.nextafter(1.0, 0.0)))
    assert draw(logits, lowest)[0].tolist() == [257] * 100 + [3] * 200
    assert draw(logits, highest)[0].tolist() == [599] * 100 + [249] * 200


@pytest.mark.parametrize("token", [0, 255, 256, 700, 999])
def test_a_certain_token_is_always_drawn(token):
    logits = torch.full((1000,), -torch.inf).index_fill(0, torch.tensor(token), 3.0).expand(1000, -1)
    tokens, logprobs = draw(logits, torch.linspace(0, 1 - 2**-53, 1000, dtype=torch.float64))
    assert (tokens == token).all()
    assert (logprobs == 0).all()


def test_a_uniform_at_a_boundary_draws_no_impossible_token():
    """Boundaries before impossible tokens and the numbers next to them, of 2,000 distributions with small numbers."""
    logits = 4 * torch.randn(2000, 1000, generator=torch.Generator().manual_seed(0))
    impossible = torch.arange(0, 1000, 32)
    logits[:, impossible] = -torch.inf
    cumulative = (logits - logits.amax(-1, keepdim=True)).exp().double().cumsum(-1)
    boundaries = (cumulative / cumulative[:, -1:])[:, impossible[1:]]
    for boundary in boundaries.unbind(-1):
        for uniforms in (boundary, torch.nextafter(boundary, boundary - 1), torch.nextafter(boundary, boundary + 1)):
            tokens, _ = draw(logits, uniforms.clamp(max=1 - 2**-53))
            assert (tokens % 32 != 0).all()


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_two_tokens_are_sampled_from_the_models_joint_distribution(name):
    """The second token goes through the cache, after the rows that ended were dropped; two prompts of 10,000 rows."""
    kind, changes = KINDS[name]
    model = random_model(kind, vocab_size=8, initializer_range=0.3, **changes).eval()
    policy = Policy(model, bpe_tokenizer())
    prompts = prompts_of([5, 6, 1, 7], [3])
    with torch.no_grad():
        model.generation_config.eos_token_id = model(torch.tensor([[3]])).logits[0, -1].topk(2).indices.tolist()
    ends = list(policy.eos_ids)
    rollouts = GroupSampler(group_size=10_000, max_new_tokens=2, max_sequences=20_000)(policy, prompts, seed=0)
    assert 0.2 < float((rollouts.lengths == 1).double().mean()) < 0.8
    for row, prompt in enumerate(prompts.token_ids):
        with torch.no_grad():
            first = model(torch.tensor([prompt])).logits[0, -1].double().softmax(-1)
            second = model(torch.tensor([[*prompt, token] for token in range(8)])).logits[:, -1].double().softmax(-1)
        assert first.max() > 2 * first.min()
        joint = first.unsqueeze(-1) * second
        joint[ends] = 0.0
        joint[ends, 0] = first[ends]
        first_tokens = rollouts.completion_ids[row, :, 0]
        second_tokens = rollouts.completion_ids[row, :, 1].masked_fill(rollouts.lengths[row] == 1, 0)
        counts = (8 * first_tokens + second_tokens).bincount(minlength=64)
        statistic, bound = chi_square(counts, joint.flatten() * 10_000)
        assert statistic < bound
