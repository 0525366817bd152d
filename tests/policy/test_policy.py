import pytest
import torch
from helpers.models import bpe_tokenizer, random_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from grouprl import GroupSampler, LoraAdapter, Policy, load_policy
from grouprl.batch import Experience, Prompts


def batch_of(policy, prompts):
    rollouts = GroupSampler(group_size=2, max_new_tokens=8)(policy, prompts, seed=0)
    experience = Experience(rollouts, torch.ones(len(prompts), 2), torch.ones(len(prompts), 2, dtype=torch.bool))
    return experience.minibatch(torch.arange(len(prompts)), experience.advantages)


def shake(policy):
    """Move every trained parameter, as an optimizer would."""
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))


@pytest.mark.parametrize("adapter", [None, LoraAdapter(rank=4)])
def test_reference_is_the_starting_policy(adapter, tiny_prompts):
    base = load_policy("tiny")
    policy = load_policy("tiny", adapter=adapter)
    policy.keep_reference()
    batch = batch_of(base, tiny_prompts)
    expected = base.logprobs(batch).logprobs.detach()
    assert torch.equal(policy.reference_logprobs(batch), expected)
    torch.testing.assert_close(policy.logprobs(batch).logprobs.detach(), expected)
    shake(policy)
    assert torch.equal(policy.reference_logprobs(batch), expected)
    assert not torch.allclose(policy.logprobs(batch).logprobs.detach(), expected, atol=1e-2)


def test_no_reference_is_held_unless_kept(tiny_policy, tiny_prompts):
    assert tiny_policy.reference is None
    with pytest.raises(ValueError, match="beta"):
        tiny_policy.reference_logprobs(batch_of(tiny_policy, tiny_prompts))


def test_lora_trains_and_saves_the_adapter_alone(tmp_path, tiny_prompts):
    policy = load_policy("tiny", adapter=LoraAdapter(rank=4))
    trained = [name for name, parameter in policy.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    shake(policy)
    policy.save(tmp_path / "adapter")
    policy.save(tmp_path / "merged", merged=True)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    batch = batch_of(policy, tiny_prompts)
    expected = policy.logprobs(batch).logprobs.detach()
    for folder in ("adapter", "merged"):
        again = load_policy(str(tmp_path / folder))
        assert not again.has_adapter
        assert all(parameter.requires_grad for parameter in again.parameters())  # all train after the merge
        torch.testing.assert_close(again.logprobs(batch).logprobs.detach(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("adapter", [None, LoraAdapter(rank=4)])
def test_saved_folders_load_in_two_lines(adapter, tmp_path):
    policy = load_policy("tiny", adapter=adapter)
    shake(policy)
    folder = policy.save(tmp_path / "policy")
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template
    ids = torch.tensor([tokenizer.encode("What is 3 + 4?")])
    torch.testing.assert_close(model(ids).logits, policy.model(ids).logits)


def test_continuing_an_adapter_takes_it_as_the_reference(tmp_path, tiny_prompts):
    first = load_policy("tiny", adapter=LoraAdapter(rank=4))
    shake(first)
    first.save(tmp_path / "adapter")
    second = load_policy(str(tmp_path / "adapter"), adapter=LoraAdapter(rank=4))
    batch = batch_of(first, tiny_prompts)
    expected = first.logprobs(batch).logprobs.detach()
    shake(second)
    torch.testing.assert_close(second.reference_logprobs(batch), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("init", ["pissa", "olora", False])
def test_starts_that_change_the_base_are_refused(init):
    with pytest.raises(ValueError, match=r"adapter.init"):
        LoraAdapter(init=init)


def test_folders_that_are_no_policy_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"policy.path=.*there is no such folder"):
        load_policy(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match=r"no config.json"):
        load_policy(str(tmp_path))
    random_model("qwen2").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no tokenizer"):
        load_policy(str(tmp_path))


def test_ends_of_generation_config_and_tokenizer_are_honoured():
    model = random_model("qwen2")
    model.generation_config.eos_token_id = [7, 9]
    assert Policy(model, bpe_tokenizer()).eos_ids == (7, 9, 2)


def test_an_adapter_on_a_merged_base_is_saved_whole(tmp_path):
    """A second adapter is trained on a merged base that is no folder's: saved alone it would name another base."""
    from grouprl.policy.adapters import LoraAdapter
    from grouprl.policy.load import load_policy

    def nudge(policy):
        with torch.no_grad():
            for parameter in policy.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.02 * torch.randn_like(parameter))

    first = load_policy("tiny", adapter=LoraAdapter(rank=4))
    nudge(first)
    first.save(tmp_path / "first")
    second = load_policy(str(tmp_path / "first"), adapter=LoraAdapter(rank=4))
    nudge(second)
    second.save(tmp_path / "second")
    ids = torch.tensor([[5, 6, 7, 8]])
    again = load_policy(str(tmp_path / "second"))
    torch.testing.assert_close(again.model(ids).logits, second.model(ids).logits, atol=1e-4, rtol=1e-4)
    assert not (tmp_path / "second" / "adapter_config.json").exists()


def test_special_tokens_are_left_out_of_texts_unless_they_are_asked_for():
    tokenizer = bpe_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>"]})
    ids = tokenizer("<think>3 and 4 get 7.<|im_end|>", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_tokens_to_ids("<think>") in tokenizer.all_special_ids
    for skip, text in ((True, "3 and 4 get 7."), (False, "<think>3 and 4 get 7.")):
        policy = Policy(random_model("qwen2"), tokenizer, skip_special_tokens=skip)
        assert policy.texts_of([ids, [*ids, tokenizer.pad_token_id]]) == [text, text]


def test_rewards_read_the_special_tokens_that_were_asked_for():
    tokenizer = bpe_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>"]})
    think = tokenizer.convert_tokens_to_ids("<think>")
    prompts = Prompts(("1 + 1?",), ("2",), ((5, 6, 7),), (0,))
    texts = {}
    for skip in (True, False):
        policy = Policy(random_model("qwen2"), tokenizer, skip_special_tokens=skip)
        with torch.no_grad():
            policy.base.lm_head.weight[think] = 3 * policy.base.lm_head.weight.abs().max()
            policy.base.model.norm.weight.fill_(3.0)
        found = GroupSampler(group_size=8, max_new_tokens=12)(policy, prompts, seed=0)
        texts[skip] = found.completions[0]
        assert (found.completion_ids == think).any()
    assert not any("<think>" in text for text in texts[True])
    assert any("<think>" in text for text in texts[False])
