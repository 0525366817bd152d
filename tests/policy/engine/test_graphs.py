"""Decode steps of static shapes, with a stand-in for CUDA graphs that records operations and runs them again."""

from __future__ import annotations

import gc
import logging
import weakref
from dataclasses import replace
from functools import partial, partialmethod
from types import SimpleNamespace

import pytest
import torch
from helpers.batches import recomputed
from helpers.kinds import (
    ADAPTERS,
    FAST,
    NEW,
    PROMPTS,
    SAMPLER,
    generated,
    moved,
    policy_of,
    policy_with,
    replaced,
    stack_of,
    with_many_ends,
)
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from grouprl import GroupSampler, LoraAdapter, Policy
from grouprl.policy.engine import entry, graphs, packing, stack
from grouprl.policy.engine import steps as decoding_steps
from grouprl.policy.engine.buckets import Buckets
from grouprl.policy.engine.graphs import COLUMNS, ROWS, CudaCapture, GraphSteps
from grouprl.policy.engine.stack import grouped_attention
from grouprl.sampling import decoding

WAITS = ("_local_scalar_dense", "nonzero", "item", "equal", "masked_select", "unique")
"""Operations for which a CPU waits for its GPU: a capture fails at them."""


class Recorded:
    """Records what a function does, and does it again to the same tensors, as a CUDA graph does.

    Numbers of Python are those of the recording: a step that depended on one would go wrong when it is run again.
    """

    def __init__(self, device):
        self.recordings = []

    def __call__(self, function):
        calls = []

        class Recorder(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                out = func(*args, **(kwargs or {}))
                calls.append((func, args, kwargs or {}, out))
                return out

        with Recorder():
            result = function()
        self.recordings.append(calls)

        def replay():
            for func, args, kwargs, out in calls:
                again = func(*args, **kwargs)
                old, new = ((part,) if torch.is_tensor(part) else part for part in (out, again))
                inputs = {part.untyped_storage().data_ptr() for part in args if torch.is_tensor(part)}
                for before, now in zip(old, new, strict=True):
                    if torch.is_tensor(before) and before.untyped_storage().data_ptr() not in inputs:
                        before.copy_(now)
            return result

        return replay


class Used:
    """Puts `GraphSteps` of small buckets in place of what the device would take, and keeps those that were made."""

    def __init__(self, monkeypatch, capture=Recorded, rows=ROWS, columns=Buckets(4, 1)):
        self.made = []

        def next_tokens(policy, prompts, group, limit):
            stack = stack_of(policy, max(map(len, prompts)) + limit)
            arguments = {"capture": capture, "row_buckets": rows, "column_buckets": columns, "kept": policy._kept}
            self.made.append(GraphSteps(stack, prompts, group, limit, **arguments))
            return self.made[-1]

        monkeypatch.setattr(Policy, "next_tokens", next_tokens)

    @property
    def memory(self):
        return self.made[-1].memory


@pytest.fixture
def used(monkeypatch):
    return partial(Used, monkeypatch)


def test_buckets_are_the_smallest_that_hold_a_size():
    sizes = list(dict.fromkeys(map(ROWS.round_up, range(1, 97))))
    assert sizes == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96]
    sizes = list(dict.fromkeys(map(COLUMNS.round_up, range(1, 6000))))
    assert sizes == [256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096, 5120, 6144]
    assert all(buckets.round_up(size) >= size for buckets in (ROWS, COLUMNS, Buckets(3, 1)) for size in range(1, 5000))


@pytest.mark.parametrize("capture", [None, Recorded])
@pytest.mark.parametrize("name", FAST)
def test_greedy_tokens_are_those_of_generate_on_each_prompt_alone(name, capture, used):
    policy = policy_of(name)
    free = [generated(policy, ids, ()) for ids in PROMPTS.token_ids]
    policy.base.generation_config.eos_token_id = [free[0][2], free[3][6]]
    expected = [generated(policy, ids, policy.eos_ids) for ids in PROMPTS.token_ids]
    steps = used(capture)
    rollouts = GroupSampler(max_new_tokens=NEW)(policy, PROMPTS, seed=0, greedy=True)
    rows = zip(rollouts.completion_ids[:, 0], rollouts.completion_mask[:, 0], strict=True)
    assert [ids[mask].tolist() for ids, mask in rows] == expected
    if capture:
        assert len({rows for rows, _ in steps.memory.captured}) >= 2
        assert len({end for _, end in steps.memory.captured}) >= 2


@pytest.mark.parametrize("columns", [Buckets(1, 1000), Buckets(4, 1), Buckets(7, 1), Buckets(64, 1)])
@pytest.mark.parametrize("rows", [Buckets(1, 1000), ROWS, Buckets(5, 2), Buckets(64, 1)])
def test_samples_and_logprobs_do_not_depend_on_the_buckets(rows, columns, used):
    policy = with_many_ends(policy_of("qwen2"))
    expected = SAMPLER(policy, PROMPTS, seed=1)
    used(rows=rows, columns=columns)
    actual = SAMPLER(policy, PROMPTS, seed=1)
    assert_same(actual, expected)


def assert_same(actual, expected, atol=1e-5):
    assert torch.equal(actual.completion_ids, expected.completion_ids)
    assert torch.equal(actual.completion_mask, expected.completion_mask)
    assert torch.equal(actual.truncated, expected.truncated)
    assert actual.completions == expected.completions
    torch.testing.assert_close(actual.sampler_logprobs, expected.sampler_logprobs, atol=atol, rtol=0)


@pytest.mark.parametrize("change", [partial(moved, size=0.05), replaced], ids=["in place", "in new memory"])
@ADAPTERS
@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llama biased", "gemma"])
def test_recorded_logprobs_are_the_trainers_after_an_update_too(name, adapter, change, used):
    policy = with_many_ends(policy_with(name, adapter))
    used()
    for _ in range(2):
        rollouts = SAMPLER(policy, PROMPTS, seed=1)
        expected = recomputed(policy, rollouts)
        torch.testing.assert_close(
            rollouts.sampler_logprobs, expected.detach().view_as(rollouts.sampler_logprobs), atol=1e-5, rtol=0
        )
        change(policy)


@ADAPTERS
def test_steps_are_captured_once_for_all_calls_and_no_step_waits(adapter, used):
    policy = with_many_ends(policy_with("qwen3", adapter))
    steps = used()
    SAMPLER(policy, PROMPTS, seed=1)
    memory, recordings = steps.memory, steps.memory.capture.recordings
    before = dict(memory.captured)
    assert len(recordings) == len(before) >= 4
    names = {func.name().split("::")[1].split(".")[0] for calls in recordings for func, *_ in calls}
    assert not names & set(WAITS)
    moved(policy, 0.05)
    again = SAMPLER(policy, PROMPTS, seed=1)
    assert steps.memory is memory
    assert before.items() <= memory.captured.items()
    assert len(recordings) == len(memory.captured)
    policy.release_caches()
    assert_same(again, SAMPLER(policy, PROMPTS, seed=1))
    assert steps.memory is not memory


def test_memory_grows_for_more_rows_and_columns_and_then_serves_both(used):
    policy = with_many_ends(policy_of("qwen2"))
    steps = used()
    many, long = GroupSampler(group_size=9, max_new_tokens=5), GroupSampler(group_size=2, max_new_tokens=30)
    for sampler in (many, long, many, long):
        sampler(policy, PROMPTS, seed=0)
    memories = [made.memory for made in steps.made]
    assert memories[0] is not memories[1]
    assert memories[1] is memories[2] is memories[3]


def test_what_a_call_left_behind_does_not_enter_the_next(used):
    policy = with_many_ends(policy_of("qwen2"))
    steps = used()
    expected = SAMPLER(policy, PROMPTS, seed=1)
    memory = steps.memory
    for tensor in (*memory.keys, *memory.values):
        tensor.fill_(torch.nan)
    memory.starts.fill_(10**6)
    assert_same(SAMPLER(policy, PROMPTS, seed=1), expected, atol=0)
    assert steps.memory is memory


def test_memory_beyond_its_share_of_the_device_is_given_back(used, monkeypatch):
    policy = policy_of("qwen2")
    steps = used()
    SAMPLER(policy, PROMPTS, seed=1)
    size = steps.memory.bytes
    assert policy._kept
    monkeypatch.setattr(graphs, "_device_bytes", lambda _: size / graphs._KEEP_SHARE - 1)
    policy.release_caches()
    SAMPLER(policy, PROMPTS, seed=1)
    assert not policy._kept


def test_a_policy_takes_its_memory_along():
    policy = policy_of("qwen2")
    GraphSteps(stack_of(policy), [[5, 6]], 1, 4, capture=None, kept=policy._kept).prefill()
    memory = weakref.ref(policy._kept["decoding"])
    assert memory() is not None
    del policy
    gc.collect()
    assert memory() is None


def test_a_call_in_inference_mode_leaves_memory_that_others_can_write(used):
    policy = with_many_ends(policy_of("qwen2", adapter=LoraAdapter(rank=4)))
    used()
    with torch.inference_mode():
        first = SAMPLER(policy, PROMPTS, seed=1)
    second = SAMPLER(policy, PROMPTS, seed=1)
    with torch.inference_mode():
        third = SAMPLER(policy, PROMPTS, seed=1)
    assert_same(second, first, atol=0)
    assert_same(third, first, atol=0)
    recomputed(policy, second).sum().backward()


@pytest.mark.parametrize("autocast", [False, True])
def test_adapters_can_be_off(autocast, used):
    policy = policy_of("qwen2", adapter=LoraAdapter(rank=4))
    used()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast, cache_enabled=False):
        on = SAMPLER(policy, PROMPTS, seed=1)
        with policy.model.disable_adapter():
            off = SAMPLER(policy, PROMPTS, seed=1)
            expected = recomputed(policy, off).detach().view_as(off.sampler_logprobs)
    assert (off.sampler_logprobs - expected).abs().mean() < (2e-2 if autocast else 1e-5)
    assert on.completions != off.completions


@ADAPTERS
@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llama biased", "gemma"])
def test_under_autocast_weights_are_cast_once_a_call_and_not_once_a_step(name, adapter, used):
    policy = with_many_ends(policy_with(name, adapter))
    steps = used()
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        rollouts = SAMPLER(policy, PROMPTS, seed=1)
        gap = (recomputed(policy, rollouts).detach().view_as(rollouts.sampler_logprobs) - rollouts.sampler_logprobs)[
            rollouts.completion_mask
        ]
    memory = steps.memory
    assert memory.keys[0].dtype == memory.values[0].dtype == torch.bfloat16
    with torch.no_grad():
        assert memory.stack.head(torch.randn(3, policy.base.config.hidden_size)).dtype == torch.float32
    # As close as the eager steps, of which `test_under_bf16_autocast_both_paths_are_close` says the same.
    assert gap.abs().mean() < 4e-2
    matrices = {p.untyped_storage().data_ptr() for p in policy.parameters() if p.ndim == 2}
    cast = [args[0] for calls in memory.capture.recordings for func, args, *_ in calls if "_to_copy" in func.name()]
    assert cast
    assert not any(tensor.untyped_storage().data_ptr() in matrices for tensor in cast)


def test_under_autocast_adapters_act_as_in_training_beside_the_copy(used):
    """Adapters so small that bfloat16 would round them away in a merged weight."""
    policy = policy_of("qwen2", adapter=LoraAdapter(rank=4))
    with torch.no_grad():
        for key, parameter in policy.named_parameters():
            if "lora_B" in key:
                parameter.mul_(0.02)
    steps = used(capture=None)
    x = torch.randn(5, 32)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False), torch.no_grad():
        SAMPLER(policy, PROMPTS, seed=1)
        for copied, block in zip(steps.memory.stack.blocks, stack_of(policy, 20).blocks, strict=True):
            for actual, expected in zip(copied.qkv(x), block.qkv(x), strict=True):
                assert actual.dtype == expected.dtype == torch.bfloat16
                torch.testing.assert_close(actual, expected, atol=0.02, rtol=0.02)


def test_in_bf16_weights_adapters_keep_their_own_precision(used):
    policy = policy_of("qwen2", adapter=LoraAdapter(rank=4))
    policy.base.to(torch.bfloat16)
    for key, parameter in policy.named_parameters():
        if "lora" in key:
            parameter.data = parameter.data.float()
    steps = used(capture=None)
    SAMPLER(policy, PROMPTS, seed=1)
    x = torch.randn(5, 32, dtype=torch.bfloat16)
    with torch.no_grad():
        for copied, block in zip(steps.memory.stack.blocks, stack_of(policy, 20).blocks, strict=True):
            for actual, expected in zip((*copied.qkv(x), copied.mlp(x)), (*block.qkv(x), block.mlp(x)), strict=True):
                assert actual.dtype == torch.bfloat16
                torch.testing.assert_close(actual, expected, atol=1e-3, rtol=0.01)


@pytest.mark.parametrize("static", [False, True])
def test_rollouts_do_not_depend_on_how_often_finished_rows_are_looked_for(static, used, monkeypatch):
    policy = with_many_ends(policy_of("qwen2"))
    if static:
        used()
    plain = decoding.Decoder.__init__
    results = []
    for every in (1, 8, 16):
        monkeypatch.setattr(decoding.Decoder, "__init__", partialmethod(plain, check_every=every))
        results.append(SAMPLER(policy, PROMPTS, seed=1))
    assert results[0].lengths.min() < 4 < NEW == results[0].lengths.max()
    for result in results[1:]:
        assert_same(result, results[0])


def test_stop_texts_are_found_however_often_rows_are_looked_for(monkeypatch):
    policy = policy_of("qwen2")
    first = SAMPLER(policy, PROMPTS, seed=1)
    stop = (policy.tokenizer.decode(first.completion_ids[0, 0, 3:5].tolist()),)
    plain = decoding.Decoder.__init__
    results = []
    for every in (None, 8):
        monkeypatch.setattr(decoding.Decoder, "__init__", partialmethod(plain, check_every=every))
        results.append(replace(SAMPLER, stop=stop)(policy, PROMPTS, seed=1))
    assert results[0].lengths[0, 0] <= 5
    assert_same(*results)


def test_a_capture_that_fails_is_said_once_and_decoding_goes_on(used, caplog):
    """On this machine the real capture fails, for want of CUDA."""
    if torch.cuda.is_available():
        pytest.skip("captures succeed here")
    policy = with_many_ends(policy_of("qwen2"))
    expected = SAMPLER(policy, PROMPTS, seed=1)
    steps = used(capture=CudaCapture)
    with caplog.at_level(logging.WARNING, "grouprl"):
        for _ in range(2):
            assert_same(SAMPLER(policy, PROMPTS, seed=1), expected)
    assert [record.getMessage().count("without CUDA graphs") for record in caplog.records] == [1]
    assert steps.memory.captured == {}


def test_the_option_and_the_device_choose_the_steps(monkeypatch):
    policy = policy_of("qwen2")
    assert type(policy.next_tokens([[5]], 1, 4)) is decoding_steps.StackSteps
    chosen = []
    on_gpu = SimpleNamespace(is_cuda=True)
    monkeypatch.setattr(stack.DecoderStack, "head_weight", on_gpu)
    monkeypatch.setattr(entry, "with_copy", lambda stack: stack)
    monkeypatch.setattr(entry, "GraphSteps", lambda *_, capture, kept: chosen.append((capture, kept is policy._kept)))
    policy.next_tokens([[5]], 1, 4)
    assert chosen == [(CudaCapture, True)]
    policy.cuda_graphs = False
    monkeypatch.setattr(entry, "StackSteps", lambda *_: chosen.append("eager"))
    policy.next_tokens([[5]], 1, 4)
    assert chosen == [(CudaCapture, True), "eager"]


def test_repeated_keys_attend_as_grouped_ones():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, 5, 8, generator=generator, requires_grad=True) for heads in (6, 2, 2))
    mask = torch.zeros(2, 1, 5, 5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    results = []
    for repeat in (False, True):
        out = grouped_attention(q, k, v, repeat=repeat, attn_mask=mask)
        results.append((out.detach(), *torch.autograd.grad(out.square().sum(), (q, k, v))))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)


@ADAPTERS
@pytest.mark.parametrize("name", ["qwen2", "qwen3", "gemma"])
def test_under_autocast_attention_gets_all_its_tensors_in_one_dtype(name, adapter, used, monkeypatch):
    """And masks whose rows begin where CUDA kernels want them; in sampling and training, with keys repeated."""
    policy = with_many_ends(policy_with(name, adapter))
    used(capture=None, columns=Buckets(16, 1))
    dtypes, strides = set(), set()

    def attention(q, k, v, attn_mask=None, **settings):
        masks = [] if attn_mask is None else [attn_mask]
        dtypes.update(part.dtype for part in (q, k, v, *masks))
        strides.update(mask.stride(dim) % 16 for mask in masks for dim in range(3) if mask.shape[dim] > 1)
        assert q.shape[1] == k.shape[1] == v.shape[1]
        return scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, **settings)

    for module in (stack, graphs):
        monkeypatch.setattr(module, "scaled_dot_product_attention", attention)
    for module in (packing, decoding_steps):
        monkeypatch.setattr(module, "grouped_attention", partial(grouped_attention, repeat=True))
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        rollouts = SAMPLER(policy, PROMPTS, seed=1)
        recomputed(policy, rollouts).sum().backward()
    assert dtypes == {torch.bfloat16}
    assert strides == {0}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in policy.parameters() if p.requires_grad)
