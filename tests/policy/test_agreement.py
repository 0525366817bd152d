"""Models and tokenizers that do not belong together, weights that are no numbers, adapters of layers that are not there."""

import pytest
import torch
from helpers.kinds import NEW, generated
from helpers.models import bpe_tokenizer, random_model

from grouprl import GroupSampler, LoraAdapter
from grouprl.batch import Prompts
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.preflight import check_job
from grouprl.policy.agreement import check_steps
from grouprl.policy.load import load_policy
from grouprl.policy.policy import Policy

QUESTION = Prompts(("1 + 1?",), ("2",), ((5, 6, 7),), (0,))


def test_a_tokenizer_without_an_end_and_padding_is_refused():
    tokenizer = bpe_tokenizer()
    tokenizer.eos_token = tokenizer.pad_token = None
    with pytest.raises(ValueError, match=r"has no end-of-sequence token and no padding token.*tokenizer_config.json"):
        Policy(random_model("qwen2"), tokenizer)


def test_a_tokenizer_without_padding_pads_with_its_end():
    tokenizer = bpe_tokenizer()
    tokenizer.pad_token = None
    assert Policy(random_model("qwen2"), tokenizer).tokenizer.pad_token == "<|im_end|>"


def test_tokens_that_are_no_rows_of_the_embedding_are_named():
    tokenizer = bpe_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    with pytest.raises(ValueError, match=r"token '<pad>' has the number \d+, and the model's embedding has 300 rows"):
        Policy(random_model("qwen2", vocab_size=300), tokenizer)
    policy = Policy(random_model("qwen2"), bpe_tokenizer())
    with pytest.raises(ValueError, match="has the number 400, and the model's embedding has 400 rows"):
        GroupSampler(group_size=2, max_new_tokens=4)(policy, Prompts(("?",), ("2",), ((5, 400),), (0,)), seed=0)


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path):
    model = random_model("qwen2")
    model.model.layers[1].mlp.up_proj.weight.data[3, 4] = float("nan")
    model.save_pretrained(tmp_path)
    bpe_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"1 of its weights hold NaN or infinity, model.layers.1.mlp.up_proj.weight the first"
    ):
        load_policy(str(tmp_path))


@pytest.mark.parametrize("fast", [True, False])
def test_a_policy_that_overflows_is_not_sampled_from(fast):
    policy = Policy(random_model("qwen2"), bpe_tokenizer(), fast=fast)
    policy.base.model.norm.weight.data.fill_(float("inf"))
    for greedy in (True, False):
        with pytest.raises(FloatingPointError, match="logits hold NaN or infinity"):
            GroupSampler(group_size=2, max_new_tokens=4)(policy, QUESTION, seed=0, greedy=greedy)


@pytest.mark.parametrize("targets", [["q_proj", "vproj"], ["proj"], ["q_proj", "up_pro"]])
def test_each_name_of_an_adapters_targets_is_a_layers(targets):
    with pytest.raises(ValueError, match=rf"no layer of the model is called {targets[-1]}|not found in the base model"):
        Policy(random_model("qwen2"), bpe_tokenizer(), adapter=LoraAdapter(targets=targets))


@pytest.mark.parametrize("targets", [["q_proj", "lm_head"], ["embed_tokens"], ["q_proj", "embed_tokens", "lm_head"]])
def test_layers_that_share_their_weights_are_not_adapted(targets):
    tied = random_model("qwen2", tie_word_embeddings=True)
    with pytest.raises(ValueError, match=r"shares its weights with another layer .*all-linear does"):
        Policy(tied, bpe_tokenizer(), adapter=LoraAdapter(targets=targets))
    assert Policy(
        random_model("qwen2", tie_word_embeddings=False), bpe_tokenizer(), adapter=LoraAdapter(targets=targets)
    )
    assert Policy(random_model("qwen2", tie_word_embeddings=True), bpe_tokenizer(), adapter=LoraAdapter())


@pytest.fixture
def with_vision():
    """A Gemma 3 whose text is one of its parts, with a context of 40."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 40, "vocab_size": 400}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    marks = {"image_token_index": 399, "boi_token_index": 398, "eoi_token_index": 397}
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision, **marks))
    return Policy(model, bpe_tokenizer())


def test_the_context_of_a_model_with_several_parts_is_its_texts(with_vision):
    assert with_vision.context == 40


def test_a_model_with_vision_is_sampled_as_its_text(with_vision):
    prompts = Prompts(("?", "1?"), ("2", "3"), ((9, 10, 11, 12), (5, 6)), (0, 1))
    found = GroupSampler(group_size=2, max_new_tokens=NEW)(with_vision, prompts, seed=0, greedy=True)
    for row, ids in enumerate(prompts.token_ids):
        length = int(found.completion_mask[row, 0].sum())
        assert found.completion_ids[row, 0, :length].tolist() == generated(with_vision, ids, with_vision.eos_ids)


def test_float16_is_refused_before_anything_is_loaded():
    with pytest.raises(UsageError, match=r"trainer.precision=16-mixed: .*bf16-mixed"):
        check_job("train", ["trainer.precision=16-mixed"])


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("rwkv", {}, r"Models of type rwkv cannot be used here: .* differ by 0\.\d+ nats from those of the whole text"),
        (
            "xlstm",
            {"num_heads": 2},
            r"Models of type xlstm cannot decode here by steps .*\(AttributeError: .*rnn_state",
        ),
        (
            "minimax",
            {"layer_types": ["linear_attention", "full_attention"]},
            "Models of type minimax cannot decode here by steps with transformers' cache .ValueError: MiniMax uses cache",
        ),
    ],
)
def test_models_that_keep_their_state_elsewhere_or_take_padding_for_text_are_refused(kind, changes, said):
    policy = Policy(random_model(kind, **changes), bpe_tokenizer())
    with pytest.raises(ValueError, match=said) as refused:
        GroupSampler(group_size=2, max_new_tokens=4)(policy, QUESTION, seed=0)
    assert "\n" not in str(refused.value)


def test_a_models_steps_are_tried_once(monkeypatch):
    policy, calls = Policy(random_model("gpt2"), bpe_tokenizer()), []
    monkeypatch.setattr("grouprl.policy.policy.check_steps", lambda *given: calls.append(given[1:]))
    for _ in range(2):
        GroupSampler(group_size=2, max_new_tokens=4)(policy, QUESTION, seed=0)
    assert calls == [((5, 6, 7), policy.tokenizer.pad_token_id)]


@pytest.mark.parametrize("rounded", [False, True])
def test_the_trial_of_steps_knows_how_models_round(rounded):
    model = random_model("gpt2").eval()
    check_steps(model.bfloat16() if rounded else model, [5, 6, 7, 8, 9, 10, 11], 0)
    with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
        check_steps(random_model("olmo2"), [5, 6], 0)
