"""Defaults that fit the size of the policy, and what is said of them."""

import json

import pytest

from grouprl.cli.config import sizes
from grouprl.cli.config.compose import compose_job
from grouprl.cli.config.preflight import check_command

HUB = ["policy=hf", "policy.path=Qwen/Qwen2.5-1.5B"]


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ([], (2e-4, 8, 128)),
        (["policy=tiny_b", "adapter=lora"], (2e-4, 8, 128)),
        (["policy=smollm2"], (1e-5, 2, 512)),
        (["policy=hf", "policy.path=HuggingFaceTB/SmolLM2-135M-Instruct"], (1e-5, 2, 512)),
        (["policy=smollm2", "adapter=lora"], (1e-4, 2, 512)),
        ([*HUB, "adapter=lora"], (1e-5, 2, 512)),
        (HUB, (1e-6, 2, 512)),
        (["policy=smollm2", "lr=3e-4", "max_new_tokens=64"], (3e-4, 2, 64)),
        (["experiment=smollm2_words"], (1e-5, 2, 32)),
        (["experiment=repo_qwen2.5_math_1.5b_train_split"], (1e-6, 1, 2048)),
    ],
)
def test_what_is_not_given_fits_the_size(overrides, wanted):
    config = compose_job("train", overrides)
    assert (config.lr, config.minibatches, config.max_new_tokens) == wanted
    assert config.optimizer.lr == config.lr
    assert config.sampler.max_new_tokens == config.max_new_tokens


def test_a_size_is_read_from_the_folder(monkeypatch):
    for weights, lr in ((9_999_999, 2e-4), (10_000_000, 1e-5), (499_999_999, 1e-5), (500_000_000, 1e-6)):
        monkeypatch.setattr(sizes, "weights_in", lambda path, source, found=weights: found)
        assert compose_job("train", []).lr == lr


def test_completions_fit_into_the_context(tmp_path):
    for context, tokens in ((8192, 512), (100, 50)):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "x", "max_position_embeddings": context}))
        config = compose_job("train", ["policy=hf", f"policy.path={tmp_path}"])
        assert config.max_new_tokens == tokens  # a folder without weights counts as large


def test_an_adapter_has_the_size_of_its_base(tmp_path):
    for base, lr in (("tiny", 2e-4), ("smollm2", 1e-5), ("Qwen/x", 1e-6)):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
        assert compose_job("train", ["policy=hf", f"policy.path={tmp_path}"]).lr == lr
    (tmp_path / "adapter_config.json").write_text("{")  # told where the folder is checked
    assert compose_job("train", ["policy=hf", f"policy.path={tmp_path}"]).lr == 1e-6


def test_what_comes_of_the_size_is_said_and_nothing_of_small_policies(capsys):
    check_command("train", [], multirun=False)
    check_command("train", ["experiment=smollm2_words", "lr=1e-5"], multirun=False)
    assert capsys.readouterr().err == ""
    check_command("train", [*HUB, "minibatches=4"], multirun=False)
    assert capsys.readouterr().err == (
        "note: lr=1e-06 max_new_tokens=512 by the policy's size (a model that is not on this machine, taken for large). "
        "Give your own to change them.\n"
    )
    check_command("train", ["policy=smollm2", "lr=1e-5"], multirun=False)
    assert "minibatches=2 max_new_tokens=512 by the policy's size (135 million weights)" in capsys.readouterr().err
