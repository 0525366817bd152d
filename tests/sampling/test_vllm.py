"""The vLLM sampler against a stand-in with vLLM's interface.

Nothing here runs vLLM: see `stand_in_vllm`.
"""

import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import fields, replace

import lightning as L
import pytest
import torch
from helpers.batches import prompts_of, recomputed
from helpers.models import bpe_tokenizer, random_model
from helpers.paths import TESTS

from grouprl import GroupRLModule, LoraAdapter, Policy, PolicyLoss, RankAdvantage, VLLMSampler, load_policy
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.preflight import check_job
from grouprl.data.problems import tiny_problems
from grouprl.losses.corrections import TruncatedWeights
from grouprl.runtime.groups import Groups
from grouprl.runtime.guards import TrainingError
from grouprl.sampling import vllm as subject
from grouprl.training.datamodule import PromptDataModule

STAND_IN = TESTS / "helpers" / "stand_in_vllm.py"
SAMPLER = functools.partial(VLLMSampler, dtype="float32")


@pytest.fixture
def vllm(monkeypatch):
    """The stand-in as the module ``vllm``; what it does to the process is undone."""
    spec = importlib.util.spec_from_file_location("vllm", STAND_IN)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    spec.loader.exec_module(module)
    subject._engine.cache_clear()
    yield module
    subject._engine.cache_clear()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.fixture
def policy(model_folder):
    """A random model of a folder: two ends of sequence, and generation defaults that must not be applied."""
    policy = load_policy(str(model_folder("qwen2")), temperature=0.7)
    policy.base.generation_config.eos_token_id = [2, 99]
    return policy


PROMPTS = prompts_of([5, 6, 7, 8, 9], [20, 21], [30, 31, 32])


# --- the sampler ----------------------------------------------------------------------------------------------------


def test_rollouts_have_the_form_of_the_built_in_samplers(vllm, policy):
    rollouts = SAMPLER(group_size=6, max_new_tokens=60)(policy, PROMPTS, seed=3)
    assert rollouts.completion_ids.shape[:2] == (3, 6)
    assert rollouts.truncated.any()
    assert not rollouts.truncated.all()
    rows = zip(
        rollouts.completion_ids.flatten(0, 1),
        rollouts.completion_mask.flatten(0, 1),
        rollouts.truncated.flatten(),
        strict=True,
    )
    for ids, mask, truncated in rows:
        tokens = ids[mask].tolist()
        assert not {2, 99} & set(tokens[:-1])
        assert (tokens[-1] in (2, 99)) != bool(truncated)
        assert len(tokens) == 60 or not truncated
        assert (ids[~mask] == policy.tokenizer.pad_token_id).all()
    assert ((rollouts.sampler_logprobs != 0) == rollouts.completion_mask).all()
    assert rollouts.completions[1][2] == policy.tokenizer.decode(
        rollouts.completion_ids[1, 2][rollouts.completion_mask[1, 2]], skip_special_tokens=True
    )


def test_the_logprobs_are_those_of_the_distribution_drawn_from(vllm, policy):
    """At temperature 0.7, which vLLM leaves out of the logprobs by default."""
    rollouts = SAMPLER(group_size=4, max_new_tokens=12)(policy, PROMPTS, seed=3)
    torch.testing.assert_close(recomputed(policy, rollouts), rollouts.sampler_logprobs, atol=1e-4, rtol=0)
    (engine,) = vllm.LLM.made
    engine.processed = False
    raw = SAMPLER(group_size=4, max_new_tokens=12)(policy, PROMPTS, seed=3)
    assert float((recomputed(policy, raw) - raw.sampler_logprobs).detach().abs().max()) > 0.01


def test_what_is_asked_of_the_engine(vllm, policy, model_folder):
    sampler = SAMPLER(group_size=2, max_new_tokens=5, gpu_memory_utilization=0.4, max_model_len=64, enforce_eager=True)
    sampler(policy, PROMPTS, seed=0)
    (engine,) = vllm.LLM.made
    assert engine.arguments == {
        "dtype": "float32",
        "gpu_memory_utilization": 0.4,
        "max_model_len": 64,
        "enforce_eager": True,
        "enable_prefix_caching": True,
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",
    }
    assert engine.model.model.name_or_path == str(model_folder("qwen2"))
    assert subject.os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert [tuple(ids) for ids, _ in engine.requests] == [ids for ids in PROMPTS.token_ids for _ in range(2)]
    for _, params in engine.requests:
        assert (params.n, params.temperature, params.top_p, params.top_k, params.min_p) == (1, 0.7, 1.0, 0, 0.0)
        assert (params.repetition_penalty, params.presence_penalty, params.frequency_penalty) == (1.0, 0.0, 0.0)
        assert (params.max_tokens, params.logprobs, set(params.stop_token_ids)) == (5, 0, set(policy.eos_ids))
    assert len({params.seed for _, params in engine.requests}) == 6


def test_draws_depend_on_seed_iteration_prompt_and_sample_alone(vllm, policy):
    sampler = SAMPLER(group_size=3, max_new_tokens=8)
    whole = sampler(policy, PROMPTS, seed=0)
    assert tuple(sampler(policy, PROMPTS.take([row]), seed=0).completions[0] for row in range(3)) == whole.completions
    larger = replace(sampler, group_size=5)(policy, PROMPTS, seed=0)
    assert tuple(row[:3] for row in larger.completions) == whole.completions
    assert sampler(policy, PROMPTS, seed=1).completions != whole.completions
    assert sampler(policy, replace(PROMPTS, iteration=1), seed=0).completions != whole.completions
    assert len(vllm.LLM.made) == 1


def test_greedy_equals_generate(vllm, policy):
    rollouts = SAMPLER(group_size=4, max_new_tokens=10)(policy, PROMPTS, seed=0, greedy=True)
    assert rollouts.completion_ids.shape[:2] == (3, 1)
    for row, ids in enumerate(PROMPTS.token_ids):
        expected = policy.model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=10, pad_token_id=0)
        length = int(rollouts.lengths[row, 0])
        assert rollouts.completion_ids[row, 0, :length].tolist() == expected[0, len(ids) :].tolist()[:length]


@pytest.mark.parametrize("adapter", [None, LoraAdapter(rank=2, alpha=4)])
def test_weights_follow_the_policy_and_leave_it_alone(vllm, model_folder, adapter):
    policy = load_policy(str(model_folder("qwen2")), adapter=adapter)
    sampler = SAMPLER(group_size=4, max_new_tokens=8)
    before = sampler(policy, PROMPTS, seed=0)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    kept = {name: value.clone() for name, value in policy.state_dict().items()}
    after = sampler(policy, PROMPTS, seed=0)
    assert after.completions != before.completions
    torch.testing.assert_close(recomputed(policy, after), after.sampler_logprobs, atol=1e-4, rtol=0)
    assert all(torch.equal(kept[name], value) for name, value in policy.state_dict().items())
    assert len(vllm.LLM.made) == 1


def test_a_policy_of_an_adapter_folder_goes_over_merged(vllm, model_folder, tmp_path):
    trained = load_policy(str(model_folder("qwen2")), adapter=LoraAdapter(rank=2, alpha=4))
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.05 if parameter.requires_grad else 0.0)
    trained.save(tmp_path)
    policy = load_policy(str(tmp_path))
    rollouts = SAMPLER(group_size=2, max_new_tokens=8)(policy, PROMPTS, seed=0)
    torch.testing.assert_close(recomputed(policy, rollouts), rollouts.sampler_logprobs, atol=1e-4, rtol=0)


def test_names_are_a_checkpoints(model_folder):
    plain = load_policy(str(model_folder("qwen2")))
    adapted = load_policy(str(model_folder("qwen2")), adapter=LoraAdapter(rank=2))
    assert {name for name, _ in subject.weights_of(adapted)} == {name for name, _ in subject.weights_of(plain)}
    assert {name for name, _ in subject.weights_of(plain)} <= set(plain.base.state_dict())


def test_weights_that_did_not_arrive_are_not_passed_over(vllm, policy, monkeypatch):
    all_weights = subject.weights_of
    monkeypatch.setattr(subject, "weights_of", lambda policy: list(all_weights(policy))[1:])
    with pytest.raises(RuntimeError, match="did not give it"):
        SAMPLER(group_size=2, max_new_tokens=2)(policy, PROMPTS, seed=0)


def test_refusals(vllm, policy, monkeypatch):
    with pytest.raises(ValueError, match=r"max_new_tokens=12.*context of 16.*max_new_tokens=11"):
        VLLMSampler(max_new_tokens=12, max_model_len=16)(policy, PROMPTS, seed=0)
    with pytest.raises(ValueError, match="neither"):
        VLLMSampler()(Policy(random_model("qwen2"), bpe_tokenizer()), PROMPTS, seed=0)
    with monkeypatch.context() as several, pytest.raises(ValueError, match="one process"):
        several.setattr(torch.distributed, "is_initialized", lambda: True)
        several.setattr(torch.distributed, "get_world_size", lambda: 2)
        VLLMSampler()(policy, PROMPTS, seed=0)


# --- training -------------------------------------------------------------------------------------------------------


def fit(correction, lr=1e-4, **options):
    policy = load_policy("tiny")
    module = GroupRLModule(
        policy,
        SAMPLER(group_size=4, max_new_tokens=24),
        lambda completions, prompts: [[float(place) for place, _ in enumerate(group)] for group in completions],
        RankAdvantage(),
        PolicyLoss(correction=correction),
        functools.partial(torch.optim.AdamW, lr=lr),
        steps=2,
        **{"ppo_epochs": 1, "minibatches": 1, **options},
    )
    data = PromptDataModule(
        tiny_problems(train_size=8, heldout_size=2), policy, steps=2, prompts_per_step=2, max_new_tokens=24
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", limit_val_batches=0, enable_checkpointing=False, log_every_n_steps=1, **quiet
    )
    trainer.fit(module, datamodule=data)
    return module, {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.slow
def test_training_steps_with_an_engine_of_the_same_arithmetic(vllm):
    _, metrics = fit(TruncatedWeights())
    assert metrics["mismatch/max_deviation"] < 1e-3
    assert metrics["ppo/ratio/max_deviation"] < 1e-4
    assert metrics["ppo/correction/weight"] == pytest.approx(1, abs=1e-3)
    assert metrics["ppo/correction/limited"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("minibatches", [1, 2])
def test_training_steps_with_an_engine_that_is_off(vllm, minibatches):
    """The mismatch is logged and corrected, and ratios start at 1 as the old logprobs are the trainer's.

    One step gets them from its own forward pass, several from one before them, of rows that have a signal.
    """
    vllm.LLM.tilt = 0.3
    module, metrics = fit(TruncatedWeights(1.05), mismatch_tolerance=0.5, minibatches=minibatches, lr=0.0)
    assert 0.01 < metrics["mismatch/logprob"] < 0.5
    assert metrics["mismatch/max_deviation"] > 0.2
    assert metrics["ppo/ratio/max_deviation"] < 1e-4
    assert 0 < metrics["ppo/correction/limited"] < 1
    _, rollouts, _, advantages = module.last_rollouts
    with torch.no_grad():
        experience = module.make_experience(Groups(*module.last_rollouts))
    if minibatches == 1:
        assert experience.old_logprobs is None
        assert metrics["ppo/ratio/max_deviation"] == 0
        return
    batch = experience.minibatch(torch.arange(2), torch.ones_like(advantages))
    trainers = torch.where(
        advantages.unsqueeze(-1) != 0, recomputed(module.policy, rollouts).detach(), rollouts.sampler_logprobs
    )
    torch.testing.assert_close(experience.old_logprobs, trainers, atol=1e-5, rtol=0)
    assert torch.equal(batch.loss_inputs.sampler_logprobs, rollouts.sampler_logprobs.flatten(0, 1))


def test_an_engine_that_is_far_off_stops_the_run(vllm):
    vllm.LLM.tilt = 3.0
    with pytest.raises(TrainingError, match=r"mismatch_tolerance is 0\.02"):
        fit(TruncatedWeights())


@pytest.mark.slow
def test_a_small_deviation_beyond_float32s_tolerance_does_not_stop_the_run(vllm):
    vllm.LLM.tilt = 0.01
    _, metrics = fit(TruncatedWeights())
    assert metrics["mismatch/max_deviation"] > 1e-3


@pytest.mark.slow
def test_the_script_trains_evaluates_and_resumes(tmp_path, cli):
    shutil.copy(STAND_IN, tmp_path / "vllm.py")
    options = ["sampler.dtype=float32", "beta=0.04", "steps=2", "prompts_per_step=2", "minibatches=1", "group_size=2"]
    options += ["max_new_tokens=12", "data.heldout_size=2", "eval_every=1", "hydra.run.dir=run"]
    done = cli("train.py", "sampler=vllm", *options, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    keys = set().union(*lines)
    assert {"mismatch/max_deviation", "mismatch/logprob", "ppo/correction/weight", "ppo/correction/limited"} <= keys
    done = cli("train.py", "resume=run", "steps=3", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "target", "cap"),
    [
        ([], "TruncatedWeights", 2.0),
        (["loss=dapo"], "TruncatedWeights", 2.0),
        (["loss.correction.cap=5"], "TruncatedWeights", 5.0),
        (["loss/correction=token_mask"], "MaskedWeights", 2.0),
        (["loss/correction=none"], "NoCorrection", None),
    ],
)
def test_the_correction_comes_with_the_sampler_and_a_choice_wins(vllm, overrides, target, cap):
    correction = check_job("train", ["sampler=vllm", *overrides]).loss.correction
    assert correction._target_ == f"grouprl.losses.corrections.{target}"
    assert correction.get("cap") == cap


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sampler=vllm", "loss/correction=none", "loss.correction.cap=2"], r"loss\.correction\.cap=2: unknown option"),
        (["sampler=vllm", "loss.correction.cap=1"], r"loss\.correction\.cap=1"),
        (["sampler=vllm", "sampler.gpu_memory_utilization=1"], r"sampler\.gpu_memory_utilization=1"),
        (["sampler=vllm", "sampler.max_model_len=128"], r"sampler\.max_model_len=128.*max_new_tokens=128"),
        (["sampler=vllm", "sampler.dtype=auto"], r"sampler\.dtype=auto.*bfloat16"),
        (["sampler=vllm", "sampler/tools=python"], r"sampler/tools=python: the chosen sampler has no tools"),
        (["sampler=vllm", "trainer=ddp"], r"trainer\.devices=2.*one device"),
        (
            ["loss/correction=token_truncate"],
            r"loss/correction: .*sampler=group.*sampler=vllm",
        ),
    ],
)
def test_wrong_command_lines(vllm, overrides, message):
    with pytest.raises(UsageError, match=message):
        check_job("train", overrides)


def test_without_vllm_the_way_out_is_named_before_torch_is_imported(tmp_path):
    code = (
        "import sys; sys.modules['vllm'] = None\n"
        "from grouprl.cli.train import main\n"
        "try: main(['sampler=vllm'])\n"
        "except SystemExit as error: assert error.code == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'pip install "grouprl[vllm]"' in done.stderr
    assert "sampler=group" in done.stderr
    assert len(done.stderr.splitlines()) <= 3


def test_without_vllm_the_library_says_so_too(policy, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    subject._engine.cache_clear()
    with pytest.raises(ValueError, match=r'pip install "grouprl\[vllm\]"'):
        VLLMSampler()(policy, PROMPTS, seed=0)


def test_the_yaml_and_the_class_have_the_same_arguments(vllm):
    config = check_job("train", ["sampler=vllm"]).sampler
    assert set(config) - {"_target_"} == {field.name for field in fields(VLLMSampler)}
