"""Configuration: every option composes and instantiates, and a wrong command line is one message before torch."""

import json
import subprocess
import sys
from importlib.resources import files

import pytest
from helpers.models import bpe_tokenizer, random_model
from helpers.runs import prints
from hydra.core.override_parser.overrides_parser import OverridesParser

from grouprl import checks
from grouprl.cli.config.compose import compose_job, options_of, run_name
from grouprl.cli.config.identity import identity, resume_hash
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.preflight import check_command, check_job, readable
from grouprl.cli.config.schema import GROUPS
from grouprl.cli.train import main

NODES = {*GROUPS, "prompt", "prefilter", "overlap", "tools"}
"""Keys that are no options but have options of their own."""


def test_every_option_is_in_the_schema_and_has_a_docstring():
    from grouprl.cli.config.help import attribute_docs, help_text
    from grouprl.cli.config.schema import EvaluateConfig, TrainConfig

    for name, schema in (("train", TrainConfig), ("evaluate", EvaluateConfig)):
        documented = attribute_docs(schema)
        assert set(schema.__dataclass_fields__) - NODES <= set(documented) <= set(schema.__dataclass_fields__)
        text = help_text(name)
        assert all(key in text for key in documented)
        assert len(text.splitlines()) <= 60
        assert max(map(len, text.splitlines())) <= 100
    text = help_text("train")
    assert all(option in text for group in GROUPS for option in options_of(group))
    assert all(f"{group}:" in text for group in GROUPS)
    assert text.count("python train.py") >= 5


def test_names_of_run_folders():
    assert run_name("advantage-rank__eps_high-0.2", 0) == "advantage-rank__eps_high-0.2__seed-0"
    assert run_name("", 3) == "seed-3"
    assert run_name("policy.path-/a b/[c],d", 0).startswith("policy.path--a-b-c-d-")
    assert run_name("policy.path-a/b", 0) != run_name("policy.path-a-b", 0)
    assert len(run_name("x" * 500, 0)) < 255


def test_a_presets_clip_gives_way_to_the_command_line():
    assert compose_job("train", ["loss=dapo"]).loss.gate.eps_high == 0.28
    assert compose_job("train", ["loss=dapo", "eps_high=0.25"]).loss.gate.eps_high == 0.25
    assert compose_job("train", []).loss.gate.eps_high == 0.2


WRONG = [
    (["eps_hihg=0.3"], ["eps_hihg=0.3", "Did you mean 'eps_high'?"]),
    (["+eps_hihg=0.3"], ["eps_hihg", "Did you mean 'eps_high'?"]),
    (
        ["advantage=rnak"],
        ["advantage=rnak", "Did you mean advantage=rank?", "centered, custom, rank, rank_random, rloo, zscore"],
    ),
    (["los=repo"], ["los=repo", "Did you mean 'loss'?"]),
    (["advantage.tiez=min"], ["advantage.tiez=min", "Did you mean 'advantage.ties'?"]),
    (["experiment=nothing"], ["experiment=nothing", "no such experiment"]),
    (["steps=abc"], ["steps=abc", "expected a whole number"]),
    (["steps=null"], ["steps=null", "needs a value"]),
    (["steps=1.5"], ["steps=1.5", "expected a whole number"]),
    (["lr=fast"], ["lr=fast", "expected a number"]),
    (["lr_decay=perhaps"], ["lr_decay=perhaps", "expected true or false"]),
    (["steps=0"], ["steps=0", "at least 1"]),
    (["filter.drop=1.5"], ["filter.drop=1.5", "below 1"]),
    (["filter=informative", "filter.rounds=0"], ["filter.rounds=0", "at least 1"]),
    (["policy.fast=flase"], ["policy.fast=flase", "give true or false"]),
    (["policy.compile=2"], ["policy.compile=2", "give true or false"]),
    (["sampler.max_sequences=0"], ["sampler.max_sequences=0", "at least 1"]),
    (["sampler.max_sequences=abc"], ["sampler.max_sequences=abc", "expected a whole number"]),
    (["data.heldout_size=abc"], ["data.heldout_size=abc", "expected a whole number"]),
    (["data.heldout_size=-4"], ["data.heldout_size=-4", "at least 0"]),
    (["data.train_size=1000000000"], ["data.train_size=1000000000", "1 to 100000"]),
    (["overlap.benchmarks=[foo]"], ["foo", "gsm8k"]),
    (["hydra.run.dir="], ["hydra.run.dir=: it is empty"]),
    (["sampler.max_sequences=true"], ["sampler.max_sequences=True", "expected a whole number"]),
    (["loss.gate.eps_low=abc"], ["loss.gate.eps_low=abc", "expected a number"]),
    (["loss.gate.dual_clip=[3]"], ["loss.gate.dual_clip=[3]", "expected a number or null"]),
    (["advantage=zscore", "advantage.epsilon=null"], ["advantage.epsilon=None", "expected a number"]),
    (["adapter=lora", "adapter.rank=1.5"], ["adapter.rank=1.5", "expected a whole number"]),
    (["steps=1,2"], ["steps=1,2", "Add -m", "steps=[1,2]"]),
    (["steps"], ["key=value"]),
    (["group_size=1"], ["group_size=1", "at least 2"]),
    (["minibatches=3"], ["minibatches=3", "prompts_per_step=16", "1, 2, 4, 8, 16"]),
    (["minibatches=32"], ["minibatches=32", "prompts_per_step=16"]),
    (["eps_low=1"], ["eps_low=1.0", "below 1"]),
    (["eps_high=0"], ["eps_high=0.0", "above 0"]),
    (["beta=-1"], ["beta=-1.0", "at least 0"]),
    (["temperature=0"], ["temperature=0.0", "above 0"]),
    (["~steps"], ["~steps: an option has a value, and is not taken away. Write steps=VALUE."]),
    (["=5"], ["=5: there is no option before the equals sign"]),
    (["resume="], ["resume=: it names no run (is a variable empty?)"]),
    (["resume=''"], ["resume=: it names no run"]),
    (["sampler.stop=5"], ["sampler.stop=5: give a list of texts"]),
    (["++foo.bar=1"], ["++foo.bar", "unknown option 'foo'"]),
    (["trainer.precision=8"], ["trainer.precision=8: choose one of auto, 32-true, bf16-mixed"]),
    (["prompt.style=fancy"], ["prompt.style=fancy", "auto, chat, plain"]),
    (["trainer.precision=bf16-true"], ["trainer.precision=bf16-true", "bf16-mixed"]),
    (["policy=hf"], ["policy.path has no value", "policy.path=FOLDER_OR_HUB_ID"]),
    (["policy=hf", "policy.path=/no/such/folder"], ["policy.path=/no/such/folder", "no such folder"]),
    (["data=jsonl"], ["data.path has no value"]),
    (["data=jsonl", "data.path=missing.jsonl"], ["data.path=missing.jsonl", "no such file"]),
    (["data=hub", "data.name=HuggingFaceH4/MATH-500", "data.split=test"], ["MATH-500", "overlap.allow=[math500]"]),
    (["data=hub", "data.name=openai/gsm8k", "data.split='test[:100]'"], ["gsm8k", "overlap.allow=[gsm8k]"]),
    (["seed=one"], ["seed=one", "expected a whole number"]),
    (["beta=null"], ["beta"]),
    (["loss.gate=cispo"], ["loss.gate=cispo", "loss/gate=OPTION", ", ".join(options_of("loss/gate"))]),
    (["~loss.gate"], ["loss/gate=OPTION"]),
    (["~loss/gate"], ["~loss/gate", "loss/gate=OPTION"]),
    (["loss/gate=null"], ["loss/gate=null", "loss/gate=OPTION"]),
    (["loss/gate=cisop"], ["loss/gate=cisop", "Did you mean loss/gate=cispo?"]),
    (["loss/gates=cispo"], ["loss/gates=cispo", "Did you mean 'loss/gate'?"]),
    (["loss.gate._target_=mine.Gate"], ["loss.gate._target_=mine.Gate", "Add loss/gate=custom"]),
    (["loss/gate=custom"], ["loss.gate._target_ has no value"]),
    (["loss/gate=custom", "loss.gate._target_=nowhere.Gate"], ["loss.gate._target_=nowhere.Gate", "no module"]),
    (["loss/gate=custom", "loss.gate._target_=json.loads", "loss.gate.a=1"], ["Write +loss.gate.a=1"]),
    (["loss/gate=cispo", "loss.gate.eps_low=0.1"], ["loss.gate.eps_low=0.1", "Options here: loss.gate.ratio_max"]),
    (["loss/gate=cispo", "eps_high=0.3"], ["eps_high=0.3", "no component of this run reads eps_high"]),
    (["loss/gate=cispo", "loss.gate.ratio_max=1"], ["loss.gate.ratio_max=1", "above 1"]),
    (["loss/gate=sapo", "loss.gate.tau_positive=0"], ["loss.gate.tau_positive=0", "above 0"]),
    (["loss/ratio=geometric", "loss.ratio.clip=-1"], ["loss.ratio.clip=-1", "above 0"]),
    (["loss/kl=k4"], ["loss/kl=k4", "custom, k1, k2, k3"]),
    (["~loss"], ["~loss", "a run has one loss", "loss=OPTION"]),
    (["num_generations=8"], ["num_generations=8", "group_size"]),
    (["delta=3"], ["delta=3", "loss.gate.dual_clip"]),
    (["gate=cispo"], ["gate=cispo", "loss/gate=OPTION"]),
    (["loss.gat=cispo"], ["loss.gat=cispo", "loss/gate=OPTION"]),
    (["loss.gate.ratio_max=3"], ["loss.gate.dual_clip now", "another loss/gate"]),
    (
        ["sampler.tools.rounds=3"],
        ["sampler.tools.rounds=3", "sampler/tools=none has no options", "sampler/tools=python"],
    ),
    (["+sampler.tools.rounds=3"], ["sampler/tools=none has no options", "sampler/tools=python"]),
    (["+adapter.r=4"], ["adapter=none has no options", "adapter=lora"]),
    (
        ["advantage=custom", "advantage._target_=grouprl.advantages.RankAdvantage"],
        ["no such name", "grouprl.advantages.rank.RankAdvantage now"],
    ),
    (
        ["loss/gate=custom", "loss.gate._target_=grouprl.losses.SoftGate"],
        ["loss.gate._target_", "grouprl.losses.gates.SapoGate now"],
    ),
    (["loss/gate=sapo", "loss.gate.tau_negative=0"], ["loss.gate.tau_negative=0", "above 0"]),
    (["sampler/tools=bash"], ["sampler/tools=bash", "none, python"]),
    (["kl_stop=0.1"], ["kl_stop", "target_kl"]),
    (["clip_norm=2"], ["clip_norm", "max_grad_norm"]),
    (["ratio_tolerance=0.1"], ["ratio_tolerance", "mismatch_tolerance"]),
    (["save_every=2"], ["save_every", "checkpoint_every"]),
    (["prefilter.least=2"], ["prefilter.least", "prefilter.min_correct"]),
    (["allow_contaminated=[math500]"], ["allow_contaminated", "overlap.allow"]),
    (["benchmarks_dir=x"], ["benchmarks_dir", "overlap.data_dir"]),
    (["on_overlap=drop"], ["on_overlap", "overlap.action"]),
    (["loss.gate.ratio_max=3"], ["loss.gate.ratio_max", "loss.gate.dual_clip"]),
    (["sampler.tools=python"], ["sampler.tools=python", "sampler/tools"]),
    (["loss=ppo"], ["loss=ppo", "Choices: cispo, dapo, dr_grpo, grpo, gspo, repo"]),
    (["trainer=tpu"], ["trainer=tpu", "Choices: auto, cpu, ddp, gpu"]),
    (["adapter.rank=8"], ["adapter.rank=8", "adapter=none has no options", "adapter=lora"]),
    (["adapter=lora", "adapter.rank=0"], ["adapter.rank=0", "at least 1"]),
    (["adapter=lora", "adapter.init=pissa"], ["adapter.init='pissa'", "true or gaussian"]),
    (["sampler.top_p=0.9"], ["sampler.top_p=0.9", "sampler.top_p=1"]),
    (["sampler.top_k=50"], ["sampler.top_k=50", "sampler.top_k=0"]),
    (["advantage.ties=median"], ["advantage.ties=median", "average, min, max, dense, random"]),
    (["evaluation.samples=2"], ["unknown option 'evaluation.samples'", "Did you mean 'eval_samples'?"]),
    (["data.levelz.3=1"], ["unknown option 'data.levelz.3'", "Did you mean 'data.levels'?"]),
    (["data.levels=[1,0]"], ["data.levels=[1,0]: this value cannot be used for data.levels", "one by one"]),
    (["checkpoint_every=-1"], ["checkpoint_every=-1: give at least 0"]),
    (["policy=smollm2", "policy.source=web"], ["policy.source=web", "auto, hub, package"]),
    (["prompt.exemplars=wordz"], ["prompt.exemplars=wordz", "words"]),
    (["advantage.seed=3"], ["advantage.seed=3", "unknown option"]),
    (["advantage.ties=random"], ["advantage.ties=random", "advantage=rank_random"]),
    (["reward.correct=0.2"], ["reward.correct=0.2", "outscore"]),
    (["reward=math", "reward.box=-1"], ["reward.box=-1", "at least 0"]),
    (["loss.gate.dual_clip=1.1"], ["loss.gate.dual_clip=1.1", "1.2"]),
    (["save_merged=true"], ["save_merged=true", "adapter=lora"]),
    (["resume_fall_back=true"], ["resume_fall_back=True", "resume=RUN_DIR"]),
    (["accept_changed=[mine.py]"], ["accept_changed=", "resume=RUN_DIR"]),
    (["keep_checkpoints=0"], ["keep_checkpoints=0", "at least 1"]),
    (["target_kl=0"], ["target_kl=0", "above 0"]),
    (["on_unscorable=ignore"], ["on_unscorable=ignore", "drop_sample, drop_group, stop"]),
    (["on_out_of_memory=retry"], ["on_out_of_memory=retry", "stop, halve"]),
    (["on_out_of_memory=halve", "trainer.devices=2"], ["on_out_of_memory=halve", "trainer.devices=2", "=stop"]),
    (["micro_batch_tokens=-1"], ["micro_batch_tokens=-1", "at least 0"]),
    (["warmup_steps=100"], ["warmup_steps=100", "steps=40"]),
    (["prompt.context=64"], ["max_new_tokens=128", "prompt.context=64"]),
    (["trainer.devices=3"], ["trainer.devices=3", "prompts_per_step=16"]),
    (["+trainer.accumulate_grad_batches=4"], ["trainer.accumulate_grad_batches=4", "micro_batch_size"]),
    (["+trainer.gradient_clip_val=1"], ["trainer.gradient_clip_val=1", "max_grad_norm"]),
    (["loss.kl.beta=0.1", "beta=0.2"], ["beta=0.2", "no component of this run reads beta"]),
    (["loss.gate.eps_high=0.3", "eps_high=0.2"], ["eps_high=0.2", "no component of this run reads eps_high"]),
    (["reward=custom", "reward._target_=nowhere.score"], ["reward._target_=nowhere.score", "no module 'nowhere'"]),
    (["reward=custom", "reward._target_=none.py:f"], ["reward._target_=none.py:f", "no such file"]),
    (["data=jsonl", "data.path=x.jsonl", "data.duplicates=merge"], ["data.duplicates=merge", "drop, refuse, keep"]),
    (["resume=no/such/run"], ["resume=no/such/run", "not a run folder"]),
    (["-m", "resume=a"], ["resume", "-m"]),
    (["--multi"], ["--multi", "no such flag"]),
    (["-m", "advantage=rank,rnak"], ["advantage=rnak", "Did you mean advantage=rank?"]),
    (["on_out_of_memory=halve", "trainer.devices=[0,1]"], ["on_out_of_memory=halve", "trainer.devices=[0, 1]"]),
    (["-m", "eps_high=interval(0.1,0.3)"], ["eps_high=interval(0.1,0.3)", "eps_high=A,B,C"]),
    (["-m", "trainer=ddp"], ["trainer.devices=2 with -m"]),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Exit code, message, and whether torch was imported, of every wrong command line, all in one process."""
    code = (
        "import contextlib, io, json, sys\n"
        "from grouprl.cli.train import main\n"
        "outcomes = []\n"
        f"for arguments in {[arguments for arguments, _ in WRONG]!r}:\n"
        "    text, code = io.StringIO(), None\n"
        "    try:\n"
        "        with contextlib.redirect_stderr(text): main(arguments)\n"
        "    except SystemExit as error: code = error.code\n"
        "    outcomes.append([code, text.getvalue(), bool({'torch', 'lightning'} & set(sys.modules))])\n"
        "    if code is None: break\n"
        "print(json.dumps(outcomes))\n"
    )
    folder = tmp_path_factory.mktemp("empty")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, check=False, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir())
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("arguments", "parts"), WRONG, ids=[" ".join(arguments) for arguments, _ in WRONG])
def test_wrong_command_lines_name_key_value_and_way_out(arguments, parts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    code, text = prints(main, capsys)(*arguments)
    assert code == 2
    assert all(part in text for part in parts), text
    assert text.startswith("train.py: ")
    assert "Traceback" not in text
    assert len(text.splitlines()) <= 10
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_wrong_command_lines_are_answered_before_torch_is_imported(outcomes):
    for (arguments, _), (code, text, imported_torch) in zip(WRONG, outcomes, strict=True):
        assert code == 2, arguments
        assert "Traceback" not in text
        assert not imported_torch, arguments


def test_a_column_that_is_not_there(problems_file):
    with pytest.raises(UsageError, match=r"data.columns.answer=gold: .*line 1.*It has: problem, answer"):
        check_job("train", ["data=jsonl", f"data.path={problems_file}", "data.columns.answer=gold"])


def test_a_model_folder_without_a_tokenizer_and_a_context_too_short(tmp_path):
    random_model("qwen2", max_position_embeddings=64).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="has no tokenizer"):
        check_job("train", ["policy=hf", f"policy.path={tmp_path}"])
    bpe_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"max_new_tokens=64: the model's context is 64"):
        check_job("train", ["policy=hf", f"policy.path={tmp_path}", "max_new_tokens=64"])


def test_contaminated_data_is_accepted_by_name():
    check_job("train", ["data=hub", "data.name=HuggingFaceH4/MATH-500", "data.split=test", "overlap.allow=[math500]"])


@pytest.mark.parametrize("unread", ["beta=0.2", "eps_high=0.3"])
def test_an_option_that_no_component_reads_is_refused(unread):
    key = unread.partition("=")[0]
    given = {"beta": "loss.kl.beta=0.1", "eps_high": "loss.gate.eps_high=0.25"}[key]
    with pytest.raises(UsageError, match=f"{unread}: no component of this run reads {key}"):
        check_job("train", [given, unread])
    check_job("train", [unread])


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("policy.path=~/m", ["~/m"]),
        ("policy.path=~/a,b,~/c (1)", ["~/a", "b", "~/c (1)"]),
        ("resume=it's (1)", ["it's (1)"]),
        ('data.path=a"b.jsonl', ['a"b.jsonl']),
        ("data.path=C:\\a~\\", ["C:\\a~\\"]),
        ('prompt.system=Say: "yes" (or no) {a}', ['Say: "yes" (or no) {a}']),
        ("steps=3)", ["3)"]),
    ],
)
def test_values_that_the_grammar_cannot_read_are_texts(typed, values):
    read = OverridesParser.create().parse_override(readable(typed))
    found = list(read.sweep_iterator()) if read.is_sweep_override() else [read.value()]
    assert [getattr(value, "text", value) for value in found] == values


@pytest.mark.parametrize(
    "typed", ["lr=1e-3", "lr=1e-3,2e-3", "looks=[6,8", "=5", "rank", "-x", "advantage=rank,", "a='b c'"]
)
def test_other_overrides_stay_as_they_were_typed(typed):
    assert readable(typed) == typed


def test_sweeps_check_every_job_first():
    assert len(check_command("train", ["advantage=rank,zscore", "eps_high=0.2,0.28"], multirun=True)) == 4


def test_config_folders_ship_as_packages():
    assert files("grouprl.conf").joinpath("train.yaml").is_file()
    assert files("grouprl.experiments").joinpath("experiment", "none.yaml").is_file()


@pytest.mark.parametrize("devices", [1, [0], [1], "1", "[0]", "[1]", "0,", "3,"])
def test_one_device_is_one_however_it_is_said(devices):
    assert checks.on_one_device(devices)


@pytest.mark.parametrize("devices", [2, -1, 0, [0, 1], [], "2", "-1", "0,1", "auto"])
def test_several_devices_are_not_one(devices):
    assert not checks.on_one_device(devices)


@pytest.mark.parametrize(
    ("preset", "aggregation"),
    [
        ("repo", "GroupTokenMean"),
        ("grpo", "SequenceMean"),
        ("dapo", "BatchTokenMean"),
        ("dr_grpo", "ConstantLength"),
    ],
)
def test_a_preset_has_the_denominators_of_its_paper(preset, aggregation):
    assert (
        compose_job("train", [f"loss={preset}"]).loss.aggregation._target_
        == f"grouprl.losses.aggregations.{aggregation}"
    )


def test_the_default_advantage_gives_ties_their_average_rank():
    advantage = compose_job("train", []).advantage
    assert advantage._target_ == "grouprl.advantages.rank.RankAdvantage"
    assert (advantage.ties, advantage.resolution) == ("average", 1e-6)


def test_the_hashes_of_a_run_hold_what_changes_it(tmp_path):
    def hashes(*overrides):
        config = compose_job("train", overrides)
        return resume_hash(config), identity(config)["config_hash"], identity(config)["inputs"]

    first = hashes()
    assert hashes() == first
    for override in ("lr=1e-3", "seed=1", "eps_high=0.3", "advantage.ties=min", "loss=grpo", "max_grad_norm=2"):
        found = hashes(override)
        assert found[0] != first[0], override
        assert found[1] != first[1], override
    for override in ("steps=100", "micro_batch_tokens=100", "policy.gradient_checkpointing=true"):
        found = hashes(override)
        assert found[0] == first[0], override
        assert found[1] != first[1], override
    (tmp_path / "mine.py").write_text("def f(): ...\n")
    own = ["reward=custom", f"reward._target_={tmp_path}/mine.py:f"]
    before = hashes(*own)
    (tmp_path / "mine.py").write_text("def f(): pass\n")
    after = hashes(*own)
    assert before[:2] == after[:2]
    assert list(before[2]) == list(after[2]) == ["mine.py"]
    assert before[2] != after[2]


@pytest.mark.parametrize("data", [["data=jsonl", "data.path=a.jsonl"], ["data=hub", "data.name=a/b"]])
def test_the_graded_reward_belongs_to_the_embedded_task(data):
    """Other problems have no list of intermediate results: their reward is that of the recipe, unless one is asked."""
    assert compose_job("train", []).reward == compose_job("train", ["reward=graded"]).reward
    assert compose_job("train", data).reward == compose_job("train", ["reward=math"]).reward
    assert compose_job("train", [*data, "reward=format"]).reward == compose_job("train", ["reward=format"]).reward


def test_what_a_signal_left_half_done_is_no_mistake_of_the_user(monkeypatch, capsys):
    from grouprl.cli.config.messages import UsageError
    from grouprl.cli.config.preflight import guarded
    from grouprl.training import signals

    def half_done():
        raise UsageError("the configuration cannot be composed")

    with pytest.raises(SystemExit):
        guarded(half_done, "train.py")
    assert capsys.readouterr().err == "train.py: the configuration cannot be composed\n"
    monkeypatch.setattr(signals, "received", [2])
    with pytest.raises(signals.Stopped):
        guarded(half_done, "train.py")
    assert capsys.readouterr().err == ""
