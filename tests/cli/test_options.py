"""Every option of every group, alone and together with what else may be chosen: it composes, and its object is built."""

import ast
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers import stand_in_gym
from helpers.paths import ROOT
from omegaconf import OmegaConf

from grouprl.cli.build import build, build_reward, component
from grouprl.cli.config.compose import compose_job, options_of, shipped_targets
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.preflight import check_command, check_job
from grouprl.cli.config.schema import GROUPS, RENAMED
from grouprl.data import messages, tiny
from grouprl.policy import fetch as fetching

STAND_INS = {
    "policy=hf": ["policy.path=tiny"],
    "data=jsonl": ["data.path=FILE"],
    "data=hub": ["data.name=FOLDER", "data.answer_format=plain", "data.split=train", "data.configs=null"],
    "data=gsm8k": ["data.name=FOLDER", "data.configs=null", "data.columns.problem=problem", "data.answer_format=plain"],
    "data=math": ["data.name=FOLDER", "data.configs=null", "data.columns.answer=answer", "data.answer_format=plain"],
    "data=reasoning_gym": ["data.generator=makes", "data.train_size=16", "data.heldout_size=4"],
    "advantage=custom": ["advantage._target_=grouprl.advantages.rank.RankAdvantage"],
    "reward=custom": ["reward._target_=grouprl.rewards.parts.CorrectReward"],
    "optimizer=custom": ["optimizer._target_=torch.optim.Adam"],
    "loss/gate=custom": ["loss.gate._target_=grouprl.losses.gates.NoGate"],
    "loss/ratio=custom": ["loss.ratio._target_=grouprl.losses.ratios.TokenRatio"],
    "loss/aggregation=custom": ["loss.aggregation._target_=grouprl.losses.aggregations.SequenceMean"],
    "loss/kl=custom": ["loss.kl._target_=grouprl.losses.kl.K2"],
    "loss/correction=custom": ["loss.correction._target_=grouprl.losses.corrections.NoCorrection"],
    **{
        f"loss/correction={name}": ["sampler=vllm"]
        for name in options_of("loss/correction")
        if name not in ("none", "custom")
    },
    "trainer=auto": ["trainer.precision=32-true"],
    "trainer=gpu": ["trainer.accelerator=cpu", "trainer.precision=32-true"],
    "trainer=ddp": ["trainer.devices=1", "trainer.strategy=auto", "trainer.accelerator=cpu"],
}
"""Values that an option needs: a required one, or a stand-in for a hub, a GPU or several devices."""
EXPERIMENT = "experiment=grpo_qwen2.5_math_1.5b"
CONTEXTS = {
    "alone": [],
    **{f"loss={preset}": [f"loss={preset}"] for preset in options_of("loss")},
    "sampler=vllm": ["sampler=vllm"],
    EXPERIMENT: [EXPERIMENT, "policy.path=tiny", "prompt.context=512", "max_new_tokens=128"],
}
NO_TOOLS = {"sampler=vllm": ("sampler/tools",)}
"""Axes that a choice does not have."""


def cases():
    for group in GROUPS:
        for option in options_of(group):
            if group == "experiment":
                continue
            for context in CONTEXTS:
                if group in (context.partition("=")[0], *NO_TOOLS.get(context, ())):
                    continue
                if group == "data" and context == EXPERIMENT:  # an experiment is one of its own data
                    continue
                # What is not of the loss does not know its preset: one of them is enough.
                if context.startswith("loss=") and context != "loss=dapo" and not group.startswith("loss"):
                    continue
                slow = context != "alone" and not (group.startswith("loss") and context == "loss=cispo")
                yield pytest.param(f"{group}={option}", context, marks=pytest.mark.slow if slow else ())


@pytest.fixture
def vllm(monkeypatch):
    module = ModuleType("vllm")
    module.__spec__ = object()
    monkeypatch.setitem(sys.modules, "vllm", module)


@pytest.fixture
def fetched(tmp_path_factory, monkeypatch):
    """The embedded policy in place of the one that is fetched."""
    monkeypatch.setenv("GROUPRL_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(fetching, "_in_hub_cache", lambda model: None)
    shutil.copytree(Path(tiny.__file__).parent / "model", fetching.folder_of("smollm2"))
    (fetching.folder_of("smollm2") / fetching.SOURCE_FILE).write_text("{}")


@pytest.mark.parametrize(("option", "context"), cases())
def test_every_option_composes_and_builds(option, context, problems_file, vllm, fetched, monkeypatch, request):
    if option == "data=reasoning_gym":
        request.getfixturevalue("python")  # its verifiers run in the sandbox
        stand_in_gym.put_in_place(monkeypatch)
    group, _, name = option.partition("=")
    overrides = [*CONTEXTS[context], option]
    for text in STAND_INS.get(option, []):
        overrides.append(text.replace("FILE", str(problems_file)).replace("FOLDER", str(problems_file.parent)))
    config = check_job("train", overrides)
    node = OmegaConf.select(config, group.replace("/", "."))
    assert config.hydra.runtime.choices[group] == name
    assert not OmegaConf.missing_keys(node)
    if not node:  # the option to have none of it
        assert name == "none"
        return
    built = build_reward(config) if group == "reward" else component(config, group)
    module, _, wanted = node["_target_"].rpartition(".")
    if module.startswith("grouprl."):
        assert (ROOT / "src" / f"{module.replace('.', '/')}.py").exists(), "a _target_ names the file"
        functions = {"load_policy": "Policy"} | dict.fromkeys(
            (
                "tiny_problems",
                "word_problems",
                "reasoning_gym_problems",
                "jsonl_problems",
                "hub_problems",
            ),
            "ProblemSplits",
        )
        assert type(built).__name__ == functions.get(wanted, wanted)
    if group.startswith("loss/"):
        loss = component(config, "loss")
        assert getattr(loss, group.partition("/")[2]) == built


@pytest.mark.parametrize("preset", options_of("loss"))
def test_presets_are_short_and_every_gate_goes_on_top(preset):
    text = (ROOT / "conf" / "loss" / f"{preset}.yaml").read_text()
    assert len(text.splitlines()) <= 12
    for gate, name in {"cispo": "CispoGate", "sapo": "SapoGate", "none": "NoGate", "clip": "ClipGate"}.items():
        config = check_job("train", [f"loss={preset}", f"loss/gate={gate}"])
        assert config.loss.gate._target_ == f"grouprl.losses.gates.{name}"


@pytest.mark.parametrize(
    ("preset", "gate", "ratio", "aggregation", "eps"),
    [
        ("repo", "ClipGate", "TokenRatio", "GroupTokenMean", (0.2, 0.2)),
        ("grpo", "ClipGate", "TokenRatio", "SequenceMean", (0.2, 0.2)),
        ("dr_grpo", "ClipGate", "TokenRatio", "ConstantLength", (0.2, 0.2)),
        ("dapo", "ClipGate", "TokenRatio", "BatchTokenMean", (0.2, 0.28)),
        ("gspo", "ClipGate", "SequenceRatio", "SequenceMean", (3e-4, 4e-4)),
        ("cispo", "CispoGate", "TokenRatio", "BatchTokenMean", (0.2, 0.2)),
    ],
)
def test_presets_are_their_papers_choices(preset, gate, ratio, aggregation, eps):
    config = check_job("train", [f"loss={preset}"])
    chosen = [config.loss[axis]._target_.rpartition(".")[2] for axis in ("gate", "ratio", "aggregation")]
    assert chosen == [gate, ratio, aggregation]
    assert (config.eps_low, config.eps_high) == eps


def test_an_experiment_leaves_presets_as_they_are():
    own = ["experiment=repo_qwen2.5_math_1.5b", "overlap.allow=[math500]"]
    assert check_job("train", [*own, "loss=dapo"]).loss.gate.eps_high == 0.28
    assert check_job("train", [*own, "loss=dapo", "eps_high=0.25"]).loss.gate.eps_high == 0.25
    assert check_job("train", own).loss.gate.eps_high == 0.2
    # An axis of the experiment's own would survive another preset: experiments choose none.
    for file in (ROOT / "experiments" / "experiment").glob("*.yaml"):
        assert "/loss/" not in file.read_text()


def test_every_shipped_target_is_one_path_and_every_component_has_an_option():
    """File names against classes, the other way: a component without a yaml is not reachable."""
    targets = shipped_targets()
    names = [target.rpartition(".")[2] for target in targets]
    assert len(names) == len(set(names)), "two paths to one class"
    suffixes = {
        "advantages": "Advantage",
        "losses": ("Gate", "Ratio", "Mean", "Length", "Weights", "Correction", "K1", "K2", "K3"),
    }
    for package, endings in {**suffixes, "rewards": "Reward", "sampling": "Sampler"}.items():
        for file in (ROOT / "src" / "grouprl" / package).glob("*.py"):
            for item in ast.parse(file.read_text()).body:
                protocol = isinstance(item, ast.ClassDef) and any(
                    getattr(b, "id", "") == "Protocol" for b in item.bases
                )
                if isinstance(item, ast.ClassDef) and item.name.endswith(endings) and not protocol:
                    if item.name == "IsolatedReward":  # what a function of the user's is put into
                        continue
                    assert f"grouprl.{package}.{file.stem}.{item.name}" in targets


def test_the_clip_of_gspo_with_another_ratio_is_warned_of(capsys):
    check_command("train", ["loss=gspo"], multirun=False)
    assert capsys.readouterr().err == ""
    check_command("train", ["loss=gspo", "loss/ratio=token", "seed=0,1"], multirun=True)
    assert capsys.readouterr().err.count("a clip for loss/ratio=sequence") == 1  # not for each run
    check_command("train", ["loss=gspo", "loss/ratio=token", "eps_low=0.2", "eps_high=0.2"], multirun=False)
    assert capsys.readouterr().err == ""


def test_plain_functions_are_advantages_and_gates(tmp_path, monkeypatch):
    (tmp_path / "plain_functions.py").write_text(
        "def spread(rewards, valid, parts=None, scale=1.0):\n    return scale * (rewards - rewards.mean(-1, keepdim=True))\n"
        "def plain(ratio, advantages, logprobs):\n    return ratio * advantages\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = [f"{g}._target_=plain_functions.{n}" for g, n in (("advantage", "spread"), ("loss.gate", "plain"))]
    config = check_job("train", ["advantage=custom", "loss/gate=custom", *names, "+advantage.scale=2"])
    rewards = torch.tensor([[0.0, 1.0]])
    advantages = component(config, "advantage")(rewards, valid=torch.ones(1, 2, dtype=torch.bool))
    assert advantages.tolist() == [[-1.0, 1.0]]
    assert component(config, "loss").gate(torch.tensor(3.0), torch.tensor(2.0), torch.tensor(0.0)) == 6.0


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_the_new_name_of_a_renamed_option_is_one(old, new):
    group = next((g for g in sorted(GROUPS, key=len, reverse=True) if new.startswith(g.replace("/", ".") + ".")), None)
    options = options_of(group) if group else [None]
    composed = [compose_job("train", [f"{group}={option}"] if option else []) for option in options]
    assert any(OmegaConf.select(config, new, default=...) is not ... for config in composed)
    assert all(OmegaConf.select(config, old, default=...) is ... for config in composed if group != "loss/gate")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mode=tir", "tools.rounds=0"], "tools.rounds=0"),
        (["tools.rounds=3"], "tools.rounds=3: tools are used in mode=tir alone"),
        (["mode=tir", "tools=none"], "mode=tir needs it"),
        (["mode=tir", "tools.sandbox=null"], "tools.sandbox: mode=tir needs it"),
        (["mode=tir", "+tools.sandbox.foo=1"], "unknown option 'tools.sandbox.foo'"),
        (["mode=tir", "tools.sandbox.timeout_s=0"], "timeout_s=0"),
    ],
)
def test_tools_of_an_evaluation_are_checked_before_a_policy_is_loaded(overrides, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        check_job("evaluate", overrides)


@pytest.mark.parametrize("options", [["optimizer.betas=[0.9]"], ["+optimizer.foreach=true", "optimizer.fused=true"]])
def test_an_optimizer_that_refuses_its_options_does_so_before_anything_is_sampled(tmp_path, options):
    config = check_job("train", options)
    with pytest.raises(UsageError, match="optimizer: "):
        build(config, tmp_path)


def test_the_tool_message_of_the_experiment_is_the_evaluations():
    assert check_job("train", ["experiment=tools"]).prompt.system == messages.TOOLS
