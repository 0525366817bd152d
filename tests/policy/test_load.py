"""Loading a policy: weights that are not those of the model, and files that are not what their names say, are refused."""

import json
import shutil

import pytest
import torch
from helpers.models import bpe_tokenizer, random_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from grouprl import LoraAdapter, load_policy
from grouprl.policy.folder import check_policy_folder, model_context
from grouprl.policy.policy import Policy

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def folder(model_folder, tmp_path):
    """A copy of a model folder by architecture, to be broken."""

    def copy(kind="qwen2"):
        place = tmp_path / kind
        return place if place.exists() else shutil.copytree(model_folder(kind), place)

    return copy


@pytest.fixture(scope="module")
def saved_adapter(model_folder, tmp_path_factory):
    """The folder of an adapter on the queries and values of a model, with other weights than at its start."""
    policy = load_policy(str(model_folder("qwen2")), adapter=LoraAdapter(rank=4, targets=["q_proj", "v_proj"]))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return policy.save(tmp_path_factory.mktemp("adapter"))


@pytest.fixture
def adapter(saved_adapter, tmp_path):
    """A copy of it, to be broken."""
    return shutil.copytree(saved_adapter, tmp_path / "adapter")


def edit(file, change):
    """Change the tensors of a safetensors file."""
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def configure(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def without(part):
    return lambda tensors: [tensors.pop(name) for name in list(tensors) if part in name]


def with_tensor(name, value):
    return lambda tensors: tensors.update({name: value})


@pytest.mark.parametrize(
    ("change", "config", "said"),
    [
        (without(".layers.1."), {}, r"lack 12 tensors \(model\.layers\.1\.input_layernorm\.weight, .*Qwen2ForCausalLM"),
        (without("lm_head"), {}, r"lack 1 tensor \(lm_head\.weight\)"),
        (without("norm.weight"), {}, r"lack 5 tensors \(model\.layers\.0\.input_layernorm\.weight"),
        (with_tensor("model.norm.weight", torch.ones(5)), {}, r"model\.norm\.weight has shape \[5\], and .* \[32\]\."),
        (lambda tensors: None, {"intermediate_size": 48}, r"down_proj\.weight has shape .*and 5 more do not fit"),
        (
            lambda tensors: None,
            {"num_hidden_layers": 1, "layer_types": None},
            r"hold 12 tensors \(model\.layers\.1\..*",
        ),
        (lambda tensors: None, {"model_type": "llama"}, r"hold 6 tensors \(model\.layers\.0\.self_attn\.k_proj\.bias"),
        (with_tensor("model.layers.0.self_attn.q_norm.weight", torch.ones(16)), {}, r"hold 1 tensor .*another model's"),
    ],
    ids=["layer gone", "head gone", "norms gone", "norm", "sizes", "layer more", "biases more", "norms more"],
)
def test_weights_that_are_not_the_models_are_refused(folder, change, config, said):
    place = folder()
    edit(place / "model.safetensors", change)
    configure(place / "config.json", **config)
    with pytest.raises(ValueError, match=said) as refused:
        load_policy(str(place))
    assert str(refused.value).startswith(f"policy.path={place}: ")
    assert "\n" not in str(refused.value)


def test_a_model_that_could_not_be_saved_is_refused_before_anything_is_trained(folder, tmp_path):
    place = folder()
    configure(place / "config.json", quantization_config={"quant_method": "gguf", "gguf_file": "x.gguf"})
    with pytest.raises(ValueError, match=r"quantised \(gguf\) in a form that cannot be saved after training"):
        load_policy(str(place))


def test_weights_of_another_architecture_are_refused(folder):
    place = folder("qwen2")
    shutil.copy(folder("gpt2") / "model.safetensors", place)
    with pytest.raises(ValueError, match=r"lack 27 tensors .* of the Qwen2ForCausalLM"):
        load_policy(str(place))


def test_a_tied_head_is_not_missing_and_unused_weights_are_named(tmp_path, caplog):
    random_model("qwen2", tie_word_embeddings=True).save_pretrained(tmp_path)
    bpe_tokenizer().save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    policy = load_policy(str(tmp_path))
    assert policy.base.get_output_embeddings().weight is policy.base.get_input_embeddings().weight
    assert not caplog.text
    edit(tmp_path / "model.safetensors", with_tensor("v_head.weight", torch.ones(5)))
    load_policy(str(tmp_path))
    assert "1 tensor (v_head.weight), which Qwen2ForCausalLM does not use" in caplog.text
    assert "LOAD REPORT" not in caplog.text


def test_buffers_that_old_checkpoints_hold_are_no_weights(folder):
    place = folder("gpt2")
    edit(place / "model.safetensors", with_tensor("transformer.h.0.attn.bias", torch.ones(8)))
    load_policy(str(place))


def test_shards_are_read_by_their_index(folder, tmp_path):
    place = folder()
    wanted = load_policy(str(place)).model(IDS).logits
    AutoModelForCausalLM.from_pretrained(place).save_pretrained(tmp_path / "cut", max_shard_size="40KB")
    bpe_tokenizer().save_pretrained(tmp_path / "cut")
    index = tmp_path / "cut" / "model.safetensors.index.json"
    assert torch.equal(load_policy(str(tmp_path / "cut")).model(IDS).logits, wanted)
    shards = json.loads(index.read_text())["weight_map"]
    outside = {**shards, "model.norm.weight": "../outside.safetensors"}
    shutil.copy(tmp_path / "cut" / shards["model.norm.weight"], tmp_path / "outside.safetensors")
    for content, said in (
        ([], "it is a list"),
        ({}, "has no weight_map"),
        ({"weight_map": ["model.norm.weight"]}, "has no weight_map"),
        ({"weight_map": {"model.norm.weight": 3}}, "has no weight_map"),
        ({"weight_map": {**shards, "model.norm.weight": "gone.safetensors"}}, r"names gone\.safetensors, which is not"),
        ({"weight_map": outside}, r"names \.\./outside\.safetensors, which is not in the folder"),
    ):
        index.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=rf"model\.safetensors\.index\.json .*{said}"):
            load_policy(str(tmp_path / "cut"))


NOT_OBJECTS = {
    "empty": (b"", "it is empty"),
    "blank": (b" \n", "it is empty"),
    "a list": (b"[]", "it is a list"),
    "null": (b"null", "it is a NoneType"),
    "a text": (b'"x"', "it is a str"),
    "cut off": (b'{"a": ', "Expecting value"),
    "Latin-1": (b'{"a": "\xe9"}', "'utf-8' codec can't decode"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "'utf-8' codec can't decode"),
    "nested": (b'{"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", "nested more than 100 deep"),
}


@pytest.mark.parametrize("what", NOT_OBJECTS)
@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"]
)
def test_a_file_that_is_no_json_object_is_named_before_torch_is_needed(folder, name, what):
    content, said = NOT_OBJECTS[what]
    (folder() / name).write_bytes(content)
    with pytest.raises(
        ValueError, match=rf": {name} is no JSON object in UTF-8 \(.*{said}.* download it again"
    ) as refused:
        check_policy_folder(str(folder()))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("what", NOT_OBJECTS)
def test_a_tokenizer_that_is_no_json_object_is_named(folder, what):
    content, said = NOT_OBJECTS[what]
    (folder() / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"tokenizer\.json cannot be read \(.*{said}"):
        load_policy(str(folder()))


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("config.json", {"model_type": None}, "names no model_type"),
        ("config.json", {"hidden_size": "abc"}, "cannot be loaded .*'hidden_size' expected int, got str"),
        ("config.json", {"num_attention_heads": 0}, "cannot be loaded"),
        ("config.json", {"model_type": "qwen99"}, "cannot be loaded .*model type `qwen99`"),
        ("config.json", {"model_type": "t5"}, "cannot be loaded .*Unrecognized configuration class"),
        ("generation_config.json", {"eos_token_id": "abc"}, "has eos_token_id='abc'. Give a number"),
        ("generation_config.json", {"eos_token_id": [2, None]}, r"has eos_token_id=\[2, None\]"),
        ("tokenizer_config.json", {"tokenizer_class": 5}, "its tokenizer: cannot be loaded"),
    ],
)
def test_values_of_the_wrong_kind_are_one_line(folder, name, values, said):
    configure(folder() / name, **values)
    with pytest.raises(ValueError, match=said) as refused:
        load_policy(str(folder()))
    assert str(refused.value).startswith(f"policy.path={folder()}: ")
    assert "\n" not in str(refused.value)
    assert refused.value.__cause__ is None  # a command line shows the innermost cause


@pytest.mark.parametrize("cut", [0, 7, 100, -10])
def test_weights_that_are_cut_off_are_named_before_torch_is_needed(folder, cut):
    file = folder() / "model.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or cut off"):
        check_policy_folder(str(folder()))
    file.unlink()
    with pytest.raises(ValueError, match=r"holds no weights \(model\.safetensors\)"):
        check_policy_folder(str(folder()))


def test_the_context_is_read_of_nested_configurations_and_of_numbers_alone(folder):
    assert model_context(str(folder())) == 1024
    file = folder() / "config.json"
    file.write_text(json.dumps({"model_type": "x", "text_config": {"max_position_embeddings": 40}}))
    assert model_context(str(folder())) == 40
    file.write_text(json.dumps({"model_type": "x", "max_position_embeddings": "many"}))
    assert model_context(str(folder())) is None


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_the_context_of_rotary_embeddings_that_change_ends_where_they_do(folder, key):
    """Beyond it what is sampled token by token, with what was cached before, is not what the whole text gives."""
    file = folder() / "config.json"
    kinds = {"type": "longrope"}, {"type": "su"}, {"rope_type": "longrope", "original_max_position_embeddings": 32}
    for rope in kinds:
        content = {"model_type": "phi3", "max_position_embeddings": 4096, "original_max_position_embeddings": 32}
        file.write_text(json.dumps({**content, key: rope}))
        assert model_context(str(folder())) == 32
    for kind in ("yarn", "longrope"):  # one that does not say where it changes
        file.write_text(json.dumps({"model_type": "phi3", "max_position_embeddings": 4096, key: {"rope_type": kind}}))
        assert model_context(str(folder())) == 4096


def test_a_model_with_such_embeddings_is_bounded_so():
    factors = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 32, **factors}
    sizes = {"original_max_position_embeddings": 32, "max_position_embeddings": 64, "rope_parameters": rope}
    model = random_model("phi3", **sizes)
    policy = Policy(model, bpe_tokenizer())
    assert policy.context == 32
    ids = torch.arange(5, 45)[None]
    short, long = (model(ids[:, :n]).logits[0, :10].detach() for n in (30, 40))
    assert (short - long).abs().max() > 1e-3  # which is why


@pytest.mark.parametrize(
    ("change", "config", "said"),
    [
        (without("layers.1"), {}, r"lack 4 tensors \(base_model\.model\.model\.layers\.1\.self_attn\.q_proj\.lora_A"),
        (without("lora_B"), {}, "lack 4 tensors .*adapter_config.json asks for on the base"),
        (
            lambda tensors: None,
            {"target_modules": ["q_proj"]},
            r"hold 4 tensors .*v_proj.*does not ask for on the base",
        ),
        (lambda tensors: None, {"target_modules": ["o_proj"]}, r"lack 4 tensors .*o_proj"),
        (lambda tensors: None, {"target_modules": ["nope"]}, r"Target modules \{'nope'\} not found"),
        (lambda tensors: None, {"r": 8}, r"size mismatch for .*lora_A"),
        (lambda tensors: None, {"peft_type": "NOPE"}, "cannot be loaded"),
        (lambda tensors: None, {"peft_type": None}, "names no peft_type"),
        (lambda tensors: None, {"base_model_name_or_path": None}, "names no peft_type or no base_model_name_or_path"),
        (
            lambda tensors: None,
            {"base_model_name_or_path": "/nowhere/here"},
            "its base /nowhere/here: there is no such",
        ),
        (lambda tensors: tensors.clear(), {}, "lack 8 tensors"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(adapter, change, config, said):
    edit(adapter / "adapter_model.safetensors", change)
    configure(adapter / "adapter_config.json", **config)
    with pytest.raises(ValueError, match=said) as refused:
        load_policy(str(adapter))
    assert str(refused.value).startswith(f"policy.path={adapter}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ({"num_hidden_layers": 3}, r"lack 4 tensors .*layers\.2"),
        ({"hidden_size": 48}, "size mismatch"),
    ],
    ids=["a layer more", "wider"],
)
def test_an_adapter_on_another_base_is_refused(adapter, tmp_path, base, said):
    random_model("qwen2", **base).save_pretrained(tmp_path / "other")
    configure(adapter / "adapter_config.json", base_model_name_or_path=str(tmp_path / "other"))
    with pytest.raises(ValueError, match=said):
        load_policy(str(adapter))


def test_the_base_of_an_adapter_is_checked_as_any_model(adapter, folder):
    base = folder()
    configure(adapter / "adapter_config.json", base_model_name_or_path=str(base))
    load_policy(str(adapter))
    edit(base / "model.safetensors", without("model.norm"))
    with pytest.raises(ValueError, match=r": its base .*lack 1 tensor \(model\.norm\.weight\)"):
        load_policy(str(adapter))
    (base / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r": its base .*config\.json is no JSON object"):
        check_policy_folder(str(adapter))
    configure(adapter / "adapter_config.json", base_model_name_or_path=str(adapter))
    with pytest.raises(ValueError, match="names the adapter itself as its base"):
        check_policy_folder(str(adapter))


def test_an_adapter_may_bring_heads_and_embeddings(model_folder, tmp_path):
    """Layers that are trained whole, and tokens that the base does not have."""
    from peft import LoraConfig, get_peft_model

    base = str(model_folder("qwen2"))
    lora = {"r": 4, "task_type": "CAUSAL_LM"}
    made = {}
    for name, options in {
        "head": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
        "tokens": {"target_modules": ["q_proj"]},
    }.items():
        model, tokenizer = AutoModelForCausalLM.from_pretrained(base), bpe_tokenizer()
        if name == "tokens":
            tokenizer.add_tokens([f"<new {number}>" for number in range(410 - len(tokenizer))])
            model.resize_token_embeddings(410)
        model = get_peft_model(model, LoraConfig(**lora, **options))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter) * parameter.requires_grad)
        model.save_pretrained(tmp_path / name, save_embedding_layers=name != "head")
        tokenizer.save_pretrained(tmp_path / name)
        made[name] = model
    for name, model in made.items():
        torch.testing.assert_close(load_policy(str(tmp_path / name)).model(IDS).logits, model(IDS).logits)


def test_an_adapter_that_the_library_would_put_on_unasked_is_refused(adapter, monkeypatch):
    """As of a hub id, where the package sees no folder: transformers would leave the adapter unmerged and unchecked."""
    from grouprl.policy import weights

    monkeypatch.setattr(weights, "ADAPTER_CONFIG", "not in a folder here")
    with pytest.raises(ValueError, match=r"an adapter on the hub\. Download it"):
        weights.load_model(str(adapter))


def test_weights_are_counted_from_headers(model_folder, tmp_path):
    from grouprl.policy.folder import weights_in

    assert weights_in("tiny") == load_policy("tiny").weights
    folder = model_folder("qwen2")
    assert weights_in(str(folder)) == load_policy(str(folder)).weights
    assert weights_in("some/hub-id") is weights_in(str(tmp_path)) is None
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    assert weights_in(str(tmp_path)) is None
