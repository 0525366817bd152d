"""Out of memory: what the message says, and that halving changes nothing but the size of the pieces."""

import logging
import weakref
from functools import partial

import lightning as L
import pytest
import torch
from helpers.memory import ERROR, same

from grouprl import GroupRLModule, GroupSampler, LoraAdapter, PolicyLoss, RankAdvantage, load_policy
from grouprl.data.problems import tiny_problems
from grouprl.losses.kl import K3
from grouprl.policy.plain import completion_logprobs
from grouprl.runtime.groups import Groups
from grouprl.runtime.guards import TrainingError
from grouprl.runtime.memory import is_out_of_memory
from grouprl.training.datamodule import PromptDataModule


def by_place(completions, prompts):
    """Rewards with which every group has a signal, and every completion an advantage."""
    return [[float(place) for place in range(len(row))] for row in completions]


def fit(policy=None, beta=0.0, steps=2, sampler=None, reward=None, **options):
    """A short run in float64; its module, metrics and weights."""
    policy = policy or load_policy("tiny", dtype="float64")
    module = GroupRLModule(
        policy,
        sampler or GroupSampler(group_size=4, max_new_tokens=48),
        reward or by_place,
        RankAdvantage(),
        PolicyLoss(kl=K3(beta)),
        partial(torch.optim.AdamW, lr=1e-3),
        steps=steps,
        **{"minibatches": 2, "ppo_epochs": 2, **options},
    )
    splits = tiny_problems(train_size=16, heldout_size=4)
    data = PromptDataModule(splits, policy, steps=steps, prompts_per_step=4, max_new_tokens=48)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    kept = {k: v for k, v in metrics.items() if not k.startswith(("time/", "memory/", "tokens_per_s", "limits/"))}
    return module, metrics, kept, {name: value.clone() for name, value in policy.state_dict().items()}


def fails_above(policy, tokens, name="logprobs", error=None):
    """The policy with a method that runs out of memory on larger batches; the sizes it was called with."""
    method, sizes = getattr(policy, name), []

    def limited(batch):
        sizes.append(batch.tokens)
        result = method(batch)
        if batch.tokens > tokens:
            raise error or torch.OutOfMemoryError(ERROR)
        return result

    setattr(policy, name, limited)
    return sizes


def fails_in_backward(policy, tokens):
    """A policy whose backward pass runs out of memory on larger batches, half-way; the gradients it left behind."""
    method, size, left = policy.logprobs, [0], []

    def measured(batch):
        size[0] = batch.tokens
        return method(batch)

    def hook(gradient):
        if size[0] > tokens:
            left.append(sum(parameter.grad is not None for parameter in policy.parameters()))
            raise torch.OutOfMemoryError(ERROR)

    policy.logprobs = measured
    policy.model.model.layers[0].self_attn.q_proj.weight.register_hook(hook)
    return left


def close(first, second):
    """Equal to the rounding of float64, through Adam's square roots and some steps."""
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=1e-8, rtol=1e-6)


@pytest.mark.slow
def test_a_forward_pass_that_fails_is_begun_again_in_halves(caplog):
    policy = load_policy("tiny", dtype="float64")
    sizes = fails_above(policy, 100)
    with caplog.at_level(logging.WARNING, "grouprl"):
        module, metrics, kept, weights = fit(policy, on_out_of_memory="halve")
    assert module.memory.halvings == metrics["limits/halvings"] == sum(size > 100 for size in sizes) > 1
    assert module.memory.found["tokens"] == metrics["limits/micro_batch_tokens"] <= 100
    first = next(number for number, size in enumerate(sizes) if size <= 100)
    assert max(sizes[first:]) <= 100  # the limit stays, so that a later minibatch does not fail again
    assert len(caplog.messages) == module.memory.halvings  # each is said once
    assert f"micro_batch_tokens={module.memory.found['tokens']}" in caplog.messages[-1]
    _, _, wanted, untroubled = fit(micro_batch_tokens=module.memory.found["tokens"])
    assert same(weights, untroubled)
    assert kept == wanted  # and nothing was counted twice
    close(weights, fit()[3])


@pytest.mark.slow
def test_what_a_failed_backward_pass_left_does_not_count():
    policy = load_policy("tiny", dtype="float64")
    left = fails_in_backward(policy, 100)
    module, _, kept, weights = fit(policy, on_out_of_memory="halve")
    assert module.memory.halvings == len(left) > 1
    assert min(left) > 0  # a part of the gradient was there
    _, _, wanted, untroubled = fit(micro_batch_tokens=module.memory.found["tokens"])
    assert same(weights, untroubled)
    assert kept == wanted


def test_a_later_micro_batch_that_fails_begins_the_minibatch_again():
    """With the largest piece last, earlier ones have left their gradients and were measured when it fails."""
    sizes = fails_above(policy := load_policy("tiny", dtype="float64"), 175)
    module, _, kept, weights = fit(
        policy, steps=1, ppo_epochs=1, minibatches=1, on_out_of_memory="halve", micro_batch_tokens=190
    )
    assert sizes[0] <= 175 < max(sizes)
    _, _, wanted, untroubled = fit(
        steps=1, ppo_epochs=1, minibatches=1, micro_batch_tokens=module.memory.found["tokens"]
    )
    assert same(weights, untroubled)
    assert kept == wanted


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [None, LoraAdapter(rank=2)], ids=["full", "lora"])
def test_the_reference_pass_is_halved_too(adapter):
    def policy():
        torch.manual_seed(0)
        return load_policy("tiny", dtype="float64", adapter=adapter)

    sizes = fails_above(limited := policy(), 300, "reference_logprobs")
    module, _, kept, weights = fit(limited, beta=0.1, on_out_of_memory="halve")
    assert len(sizes) > module.memory.halvings > 0
    _, _, wanted, untroubled = fit(policy(), beta=0.1, micro_batch_tokens=module.memory.found["tokens"])
    assert same(weights, untroubled)
    assert kept == wanted


def test_the_comparison_with_the_sampler_is_halved_too():
    """Where no group has a signal nothing is trained on, and the mismatch is measured in a pass of its own."""

    def flat(completions, prompts):
        return [[1.0] * len(row) for row in completions]

    policy = load_policy("tiny", dtype="float64")
    sizes = fails_above(policy, 100)
    module, _, kept, _ = fit(policy, steps=1, reward=flat, on_out_of_memory="halve")
    assert sizes[0] > 100 >= sizes[-1]
    assert len(sizes) == module.memory.halvings + 1
    assert kept == fit(steps=1, reward=flat, micro_batch_tokens=module.memory.found["tokens"])[2]


def whole_minibatch(module):
    groups = Groups(*module.last_rollouts)
    return module.make_experience(groups).minibatch(torch.arange(4), torch.ones_like(groups.advantages))


def test_reference_logprobs_do_not_depend_on_the_limit():
    module = fit(beta=0.1, steps=1)[0]
    groups = Groups(*module.last_rollouts)
    rollouts, found = groups.rollouts, {}
    for tokens in (0, 50, 200):
        module.memory.found["tokens"] = tokens
        found[tokens] = module.make_experience(groups).ref_logprobs
    assert torch.count_nonzero(found[0][rollouts.completion_mask]) == rollouts.completion_mask.sum()
    assert torch.count_nonzero(found[0][~rollouts.completion_mask]) == 0
    # Against transformers (whose norms are in float32) on the rows in their order: each is where it belongs.
    alone = completion_logprobs(module.policy.reference, whole_minibatch(module)).logprobs
    torch.testing.assert_close(found[0].flatten(0, 1), alone, atol=1e-5, rtol=0)
    for tokens in (50, 200):
        torch.testing.assert_close(found[tokens], found[0], atol=1e-10, rtol=0)


def test_prompts_are_shared_in_the_reference_pass():
    policy = load_policy("tiny", dtype="float64")
    sizes = fails_above(policy, 10**9, "reference_logprobs")
    module = fit(policy, beta=0.1, steps=1)[0]
    (prompts, rollouts, *_) = module.last_rollouts
    assert sizes == [sum(map(len, prompts.token_ids)) + int(rollouts.completion_mask.sum())]


@pytest.mark.slow
def test_sampling_is_halved(small_cache, monkeypatch):
    module, metrics, kept, weights = fit(on_out_of_memory="halve")
    assert small_cache[:3] == [16, 8, 4]
    assert set(small_cache[3:]) == {4}
    assert module.memory.found["sequences"] == metrics["limits/max_sequences"] == 4
    monkeypatch.undo()
    limited = GroupSampler(group_size=4, max_new_tokens=48, max_sequences=4)
    _, _, wanted, untroubled = fit(sampler=limited)
    assert same(weights, untroubled)
    assert kept == wanted
    close(weights, fit()[3])


def test_a_group_that_does_not_fit_stops_the_run(small_cache):
    sampler = GroupSampler(group_size=8, max_new_tokens=48)
    with pytest.raises(TrainingError, match=r"sampling, 8 sequences of up to 48 new tokens(.|\n)*max_new_tokens=24"):
        fit(sampler=sampler, on_out_of_memory="halve")
    assert small_cache == [32, 16, 8]


def test_one_sequence_that_does_not_fit_stops_the_run():
    policy = load_policy("tiny", dtype="float64")
    sizes = fails_above(policy, 10)
    with pytest.raises(
        TrainingError, match=r"training, one sequence of \d+ tokens(.|\n)*gradient_checkpointing=true"
    ) as e:
        fit(policy, on_out_of_memory="halve")
    assert "micro_batch_tokens=" not in str(e.value).split("Try ")[1]
    assert len(sizes) < 12
    policy = load_policy("tiny", dtype="float64", gradient_checkpointing=True)
    fails_above(policy, 10)
    with pytest.raises(TrainingError, match=r"Try max_new_tokens=\d+\."):
        fit(policy, on_out_of_memory="halve")


def test_what_the_message_says():
    policy = load_policy("tiny", dtype="float64")
    sizes = fails_above(policy, 100)
    with pytest.raises(TrainingError) as raised:
        fit(policy, micro_batch_tokens=2000)
    text = str(raised.value)
    (size,) = sizes
    for part in [
        f"Out of memory: training, 8 sequences with {size} tokens",
        "micro_batch_tokens=2000 micro_batch_size=0 policy.gradient_checkpointing=false",
        ERROR,
        "Peak memory",
        f"Try micro_batch_tokens={size // 2} or policy.gradient_checkpointing=true.",
        "on_out_of_memory=halve",
    ]:
        assert part in text, text
    assert len(text.splitlines()) <= 6
    policy = load_policy("tiny", dtype="float64")
    fails_above(policy, 100, "reference_logprobs")
    with pytest.raises(TrainingError, match=r"reference logprobs, 16 sequences(.|\n)*Try micro_batch_tokens=\d+\.\n"):
        fit(policy, beta=0.1)


def test_what_the_message_says_of_sampling(small_cache):
    with pytest.raises(TrainingError) as raised:
        fit(sampler=GroupSampler(group_size=4, max_new_tokens=48, max_sequences=8))
    text = str(raised.value)
    assert "sampling, 8 sequences of up to 48 new tokens at once (sampler.max_sequences=8)" in text
    assert "Try sampler.max_sequences=4." in text


def test_an_optimizer_step_that_does_not_fit():
    class Large(torch.optim.AdamW):
        def step(self, *_, **__):
            raise torch.OutOfMemoryError(ERROR)

    policy = load_policy("tiny")
    module = partial(fit, policy, on_out_of_memory="halve")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", Large)
        with pytest.raises(TrainingError, match=r"optimizer step, with its state for \d+ trained(.|\n)*adapter=lora"):
            module()


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("memory"), KeyError("x")])
@pytest.mark.parametrize("mode", ["stop", "halve"])
def test_other_errors_pass(error, mode):
    policy = load_policy("tiny")
    fails_above(policy, 0, error=error)
    with pytest.raises(type(error)) as raised:
        fit(policy, on_out_of_memory=mode)
    assert raised.value is error


def test_which_errors_are_out_of_memory():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)  # a petabyte, from torch's own allocator
    assert is_out_of_memory(raised.value)
    with pytest.raises(MemoryError) as raised:
        bytearray(2**62)
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(torch.OutOfMemoryError(ERROR))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))


@pytest.mark.slow
def test_what_a_failed_pass_computed_is_freed_before_the_next():
    policy = load_policy("tiny")
    method, held, alive = policy.logprobs, [], []

    def limited(batch):
        alive.append(any(reference() is not None for reference in held))
        result = method(batch)
        held.append(weakref.ref(result.logprobs))
        if batch.tokens > 100:
            raise torch.OutOfMemoryError(ERROR)
        return result

    policy.logprobs = limited
    module = fit(policy, steps=1, ppo_epochs=1, minibatches=1, on_out_of_memory="halve")[0]
    assert module.memory.halvings > 1
    assert not any(alive[: module.memory.halvings + 1])


def test_several_ranks_cannot_halve():
    module = fit(steps=1, on_out_of_memory="halve")[0]
    with pytest.raises(TrainingError, match=r"on_out_of_memory=halve: processes=2(.|\n)*on_out_of_memory=stop"):
        module.memory.refuse_ranks(2)
    fit(steps=1)[0].memory.refuse_ranks(2)
    with pytest.raises(ValueError, match="on_out_of_memory=retry: choose one of stop, halve"):
        fit(steps=1, on_out_of_memory="retry")
