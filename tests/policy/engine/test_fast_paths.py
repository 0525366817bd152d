"""The fast paths of sampling and training give what transformers gives, on the models they serve and beside them."""

from __future__ import annotations

import logging

import pytest
import torch
from helpers.batches import batch_of, prompts_of, recomputed
from helpers.kinds import (
    ADAPTERS,
    BATCHES,
    FAST,
    KINDS,
    LENGTH,
    NEW,
    PROMPTS,
    assert_same_training,
    generated,
    holed,
    moved,
    policy_of,
    policy_with,
    ragged,
    random_completions,
    replaced,
    stack_of,
    trained,
    with_many_ends,
)

from grouprl import GroupSampler, LoraAdapter
from grouprl.policy.engine import packing, shared, stack
from grouprl.policy.engine.weights import DecodingWeights
from grouprl.policy.plain import PlainSteps


@pytest.mark.parametrize("name", KINDS)
def test_greedy_tokens_are_those_of_generate_on_each_prompt_alone(name):
    policy = policy_of(name)
    assert (stack_of(policy, LENGTH) is not None) == (name in FAST)
    free = [generated(policy, ids, ()) for ids in PROMPTS.token_ids]
    assert len({token for row in free for token in row}) > 20
    policy.base.generation_config.eos_token_id = [free[0][2], free[3][6]]
    expected = [generated(policy, ids, policy.eos_ids) for ids in PROMPTS.token_ids]
    assert min(map(len, expected)) <= 3
    assert len(set(map(len, expected))) >= 3
    assert max(map(len, expected)) == NEW
    rollouts = GroupSampler(max_new_tokens=NEW)(policy, PROMPTS, seed=0, greedy=True)
    rows = zip(rollouts.completion_ids[:, 0], rollouts.completion_mask[:, 0], strict=True)
    assert [ids[mask].tolist() for ids, mask in rows] == expected


def test_a_window_serves_sequences_up_to_its_own_length_on_the_fast_path():
    policy = policy_of("mistral wide window")
    assert stack_of(policy, LENGTH) is not None
    assert stack_of(policy, LENGTH + 1) is None


@pytest.mark.parametrize("name", KINDS)
def test_logprobs_and_entropies_are_those_of_transformers_on_each_sequence_alone(name):
    policy, batch = policy_of(name, temperature=0.7), ragged()
    with torch.no_grad():
        actual = policy.logprobs(batch)
        for row, mask in enumerate(batch.completion_mask):
            prompt, completion = batch.prompt_ids[row, batch.prompt_mask[row]], batch.completion_ids[row, mask]
            logits = policy.model(torch.cat([prompt, completion]).unsqueeze(0)).logits[0, len(prompt) - 1 : -1]
            expected = (logits / 0.7).log_softmax(-1)
            chosen = expected.gather(-1, completion.unsqueeze(-1)).squeeze(-1)
            entropy = -(expected.exp() * expected).sum(-1)
            torch.testing.assert_close(actual.logprobs[row, mask], chosen, atol=1e-5, rtol=0)
            torch.testing.assert_close(actual.entropy[row, mask], entropy, atol=1e-5, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("name", FAST)
def test_logprobs_entropies_and_gradients_are_the_plain_paths(name, temperature):
    assert_same_training(policy_of(name, temperature=temperature), ragged())


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llama biased", "gemma"])
@pytest.mark.parametrize("batch", [batch for batch in BATCHES if batch != "ragged"])
def test_batches_of_every_shape_train_as_on_the_plain_path(name, batch):
    assert_same_training(policy_of(name, temperature=0.7), BATCHES[batch]())


@pytest.fixture
def exact_norms(monkeypatch):
    """Norms of transformers in the dtype of their input: they round float64 to float32."""

    def patch(model):
        def forward(norm, x):
            eps = norm.eps if gemma else norm.variance_epsilon
            return torch.nn.functional.rms_norm(x, x.shape[-1:], norm.weight + gemma, eps)

        gemma = type(model).__name__.startswith("Gemma")
        for kind in {type(module) for module in model.modules() if type(module).__name__.endswith("RMSNorm")}:
            monkeypatch.setattr(kind, "forward", forward)

    return patch


@pytest.mark.parametrize("name", FAST)
def test_in_float64_both_paths_train_alike_to_ten_digits(name, exact_norms):
    policy = policy_of(name, temperature=0.7).double()
    exact_norms(policy.model)
    for batch in (ragged(), holed()):
        assert_same_training(policy, batch, atol=1e-10, gradient_rtol=1e-10)


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "down_proj"), ("k_proj", "up_proj")])
@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llama biased", "mistral", "gemma"])
def test_adapters_train_as_on_the_plain_path(name, targets):
    policy = policy_of(name, adapter=LoraAdapter(rank=4, targets=targets), temperature=0.7)
    assert any("lora_B" in key and p.abs().max() > 0.01 for key, p in policy.named_parameters())
    for batch in (ragged(), holed()):
        assert_same_training(policy, batch)


@ADAPTERS
@pytest.mark.parametrize("name", ["qwen2", "llama biased", "gemma"])
def test_gradient_checkpointing_keeps_less_and_changes_nothing(name, adapter):
    def numbers_kept():
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()), lambda _: None):
            policy.logprobs(batch)
        return sum(kept)

    policy, batch = policy_with(name, adapter), holed()
    everything, expected = numbers_kept(), trained(policy, batch, fast=True)
    policy.gradient_checkpointing = True
    assert numbers_kept() < everything / 2
    torch.testing.assert_close(trained(policy, batch, fast=True), expected, atol=1e-6, rtol=1e-6)


@ADAPTERS
@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llama biased", "gemma"])
def test_under_bf16_autocast_both_paths_are_close(name, adapter):
    policy = with_many_ends(policy_with(name, adapter))
    with torch.autocast("cpu", torch.bfloat16):
        fast, plain = (trained(policy, ragged(), fast) for fast in (True, False))
        policy.fast = True
        rollouts = SAMPLER(policy, PROMPTS, seed=1)
        gap = (recomputed(policy, rollouts).detach() - rollouts.sampler_logprobs)[rollouts.completion_mask]
    assert (fast[0] - plain[0]).abs().mean() < 2e-2
    assert (fast[1] - plain[1]).abs().mean() < 2e-2
    assert gap.abs().mean() < 4e-2  # bfloat16 rounds merged and separate adapters differently
    for key, expected in plain[2].items():
        assert (fast[2][key] - expected).norm() < 0.1 * expected.norm(), key


SAMPLER = GroupSampler(group_size=6, max_new_tokens=NEW)


def assert_recorded_logprobs_are_the_trainers(policy, rollouts, atol=1e-5):
    assert len(rollouts.lengths.unique()) > 5
    for fast in (True, False):
        policy.fast = fast
        expected = recomputed(policy, rollouts).detach()
        torch.testing.assert_close(rollouts.sampler_logprobs, expected, atol=atol, rtol=0)
    policy.fast = True


@pytest.mark.parametrize("name", KINDS)
def test_recorded_logprobs_are_the_trainers_and_both_samplers_draw_the_same(name):
    policy = with_many_ends(policy_of(name, temperature=0.7))
    rollouts = SAMPLER(policy, PROMPTS, seed=1)
    # A state that is updated token by token is not rounded as the same in chunks.
    assert_recorded_logprobs_are_the_trainers(policy, rollouts, atol=1e-4 if "linear attention" in name else 1e-5)
    policy.fast = False
    assert SAMPLER(policy, PROMPTS, seed=1).completion_ids.tolist() == rollouts.completion_ids.tolist()


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "down_proj")])
@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llama biased", "gemma"])
def test_recorded_logprobs_are_the_trainers_under_an_adapter(name, targets):
    policy = with_many_ends(policy_of(name, adapter=LoraAdapter(rank=4, targets=targets)))
    rollouts = SAMPLER(policy, PROMPTS, seed=1)
    assert_recorded_logprobs_are_the_trainers(policy, rollouts)
    with policy.model.disable_adapter():
        without = SAMPLER(policy, PROMPTS, seed=1)
        assert_recorded_logprobs_are_the_trainers(policy, without)
    assert without.completions != rollouts.completions


@pytest.mark.parametrize("change", [lambda policy: moved(policy, 0.05), replaced])
@ADAPTERS
@pytest.mark.parametrize("name", ["qwen2", "llama biased"])
def test_sampling_after_an_update_uses_the_new_weights(name, adapter, change):
    policy = with_many_ends(policy_with(name, adapter))
    before = SAMPLER(policy, PROMPTS, seed=1)
    assert_recorded_logprobs_are_the_trainers(policy, before)
    change(policy)
    after = SAMPLER(policy, PROMPTS, seed=1)
    assert_recorded_logprobs_are_the_trainers(policy, after)
    assert after.completions != before.completions


def test_a_model_with_forward_hooks_takes_the_plain_path_and_says_so_once(caplog):
    policy = policy_of("gemma")
    calls = []
    handle = policy.model.model.layers[1].mlp.register_forward_hook(lambda *_: calls.append(1))
    with caplog.at_level(logging.WARNING, "grouprl"):
        policy.logprobs(ragged())
        assert len(calls) == 1
        for _ in range(2):  # the plain path is tried before it is first sampled with
            calls.clear()
            SAMPLER(policy, PROMPTS, seed=0)
        assert len(calls) == NEW
    assert [record.getMessage().count("hooks") for record in caplog.records] == [1]
    assert stack_of(policy, LENGTH) is None
    handle.remove()
    assert stack_of(policy, LENGTH) is not None


def test_a_hook_on_the_model_around_an_adapter_is_called():
    policy = policy_of("llama", adapter=LoraAdapter(rank=2))
    calls = []
    policy.model.register_forward_hook(lambda *_: calls.append(1))
    policy.logprobs(ragged())
    assert calls == [1]


def test_a_backward_hook_on_a_layer_is_called():
    policy = policy_of("llama")
    calls = []
    policy.model.model.layers[1].register_full_backward_hook(lambda *_: calls.append(1))
    policy.logprobs(ragged()).logprobs.sum().backward()
    assert calls == [1]


class OtherAdapter(LoraAdapter):
    """An adapter of PEFT's that is more than two matrices beside a linear layer."""

    def attach(self, model):
        from peft import AdaLoraConfig, LoraConfig, get_peft_model

        changes = {"dora": {"use_dora": True}, "biased": {"lora_bias": True}, "with biases": {"bias": "all"}}
        kind, rank = (AdaLoraConfig, {"total_step": 10}) if self.init == "adalora" else (LoraConfig, {"r": 4})
        torch.manual_seed(0)
        config = kind(target_modules="all-linear", task_type="CAUSAL_LM", **rank, **changes.get(self.init, {}))
        peft_model = get_peft_model(model, config)
        with torch.no_grad():
            for key, parameter in peft_model.named_parameters():
                if "lora_B" in key or (parameter.requires_grad and key.endswith("bias")):
                    parameter.copy_(0.1 * torch.randn_like(parameter))
        return peft_model

    def __post_init__(self):
        pass


@pytest.mark.parametrize("kind", ["dora", "biased", "with biases", "adalora"])
def test_other_adapters_are_sampled_and_trained_as_they_are(kind):
    policy = policy_of("qwen2", adapter=OtherAdapter(rank=4, init=kind))
    rollouts = SAMPLER(policy, PROMPTS, seed=0)
    torch.testing.assert_close(recomputed(policy, rollouts), rollouts.sampler_logprobs, atol=1e-5, rtol=0)
    policy.logprobs(ragged()).logprobs.sum().backward()
    assert all(parameter.grad is not None for parameter in policy.parameters() if parameter.requires_grad)


def test_adapters_are_not_merged_in_bfloat16():
    """A weight rounded to 8 bits would swallow most of an adapter after its first steps."""
    policy = policy_of("qwen2", adapter=LoraAdapter(rank=4))
    for dtype, merged in ((torch.bfloat16, False), (torch.float32, True)):
        matrices = DecodingWeights(stack_of(policy, 20), dtype).matrices
        adapted = [matrix for matrix in matrices if hasattr(matrix.modules[0], "lora_A")]
        assert len(adapted) == 8
        assert all((matrix.down is None) == merged for matrix in adapted)


PREFIX = [5, 6, 7, 8, 9, 10, 11, 12]
SHARING = [[*PREFIX, 30, 31, 32], [*PREFIX, 30], [*PREFIX, 40, 41, 42, 43, 44], [*PREFIX, 44]]


@pytest.mark.parametrize("name", FAST)
def test_what_all_prompts_begin_with_is_computed_once_and_changes_nothing(name, monkeypatch):
    policy = policy_of(name)
    tokens = torch.tensor([20, 21] * len(SHARING))
    embedded = []
    policy.base.model.embed_tokens.register_forward_hook(lambda _, args, __: embedded.append(args[0].numel()))
    monkeypatch.setattr(stack, "_hooked", lambda model: "")
    with torch.no_grad():
        plain = PlainSteps(policy.model, SHARING, 2, policy.tokenizer.pad_token_id)
        expected = [plain.prefill(), plain.step(tokens), plain.step(tokens)]
        for least, rows in ((len(PREFIX), [8, 10]), (len(PREFIX) + 1, [42])):
            monkeypatch.setattr(shared, "LEAST", least)
            embedded.clear()
            fast = policy.next_tokens(SHARING, 2, 3)
            found = [fast.prefill(), fast.step(tokens), fast.step(tokens)]
            assert embedded[: len(rows)] == rows
            for actual, wanted in zip(found, expected, strict=True):
                torch.testing.assert_close(actual, wanted, atol=2e-5, rtol=1e-4)


def test_the_last_token_of_a_prompt_is_its_own(monkeypatch):
    monkeypatch.setattr(shared, "LEAST", 2)
    assert shared.shared_tokens([[5, 6, 7], [5, 6, 7]]) == 2
    assert shared.shared_tokens([[5, 6, 7], [5, 6, 7, 8]]) == 2
    assert shared.shared_tokens([(5, 6, 7, 9), (5, 6, 7, 8), (5, 6, 4, 8)]) == 2
    assert shared.shared_tokens([[5, 6, 7], [5, 8, 7]]) == 0
    assert shared.shared_tokens([[5, 6, 7]]) == 0


def test_a_sampler_draws_the_same_with_and_without_sharing(monkeypatch):
    policy, prompts = policy_of("qwen3"), prompts_of(*SHARING)
    for least in (2, 1000):
        monkeypatch.setattr(shared, "LEAST", least)
        rollouts = SAMPLER(policy, prompts, seed=1)
        if least == 2:
            sharing = rollouts
    assert torch.equal(sharing.completion_ids, rollouts.completion_ids)
    torch.testing.assert_close(sharing.sampler_logprobs, rollouts.sampler_logprobs, atol=1e-5, rtol=0)


def sharing_batch():
    """Groups of prompts that begin alike, next to each other and of different sizes."""
    prompts = [prompt for prompt, size in zip(SHARING, (2, 1, 3, 2), strict=True) for _ in range(size)]
    return batch_of(prompts, random_completions(5, 1, 3, 7, 2, 4, 6, 3))


@pytest.mark.parametrize("name", FAST)
def test_what_all_prompts_begin_with_is_trained_on_once_and_to_the_same_gradient(name, monkeypatch, exact_norms):
    policy = policy_of(name, temperature=0.7).double()
    exact_norms(policy.model)
    rows = []
    monkeypatch.setattr(packing, "row_count", lambda count, weight: rows.append(count) or count)
    for least, first in ((len(PREFIX), 8 + 10), (len(PREFIX) + 1, 42)):
        monkeypatch.setattr(shared, "LEAST", least)
        rows.clear()
        assert_same_training(policy, sharing_batch(), atol=1e-10, gradient_rtol=1e-10)
        assert rows[0] == first + 31 - 8  # the last token of a completion predicts nothing
    monkeypatch.setattr(shared, "LEAST", 2)
    assert_same_training(policy, sharing_batch().rows(torch.tensor([3, 0, 1])), atol=1e-10, gradient_rtol=1e-10)


def test_sharing_trains_adapters_under_checkpointing_the_same(monkeypatch):
    monkeypatch.setattr(shared, "LEAST", 2)
    policy = policy_with("qwen3", LoraAdapter(rank=4))
    assert_same_training(policy, sharing_batch())
    policy.gradient_checkpointing = True
    assert_same_training(policy, sharing_batch())
