"""A run as a Hugging Face folder: it loads in two lines, writes what the policy wrote, and its card says what it is."""

import json

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from grouprl import GroupSampler
from grouprl.cli.evaluate import main as evaluate
from grouprl.data import prompts
from grouprl.data.rows import Problem
from grouprl.policy.load import load_policy
from grouprl.training.export import main

PROBLEMS = [Problem(f"Compute ${n} + {n + 5} - 3$.", str(2 * n + 2)) for n in range(3, 9)]


def greedy(policy):
    encoded = prompts.encode(policy.tokenizer, PROBLEMS)
    return GroupSampler(max_new_tokens=64)(policy, encoded, seed=0, greedy=True)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [[], ["adapter=lora", "adapter.rank=4"]])
def test_an_exported_run_is_the_policy_that_was_trained(train, tmp_path, adapter):
    assert train(*adapter, "lr=5e-3", f"hydra.run.dir={tmp_path / 'runs' / 'one'}") == 0
    main(["run=runs/one", "out=published"])
    model = AutoModelForCausalLM.from_pretrained("published")
    tokenizer = AutoTokenizer.from_pretrained("published")
    trained = greedy(load_policy("runs/one/policy"))
    ids = [prompts.encode(tokenizer, [problem]).token_ids[0] for problem in PROBLEMS]
    for row, prompt in enumerate(ids):
        written = model.generate(torch.tensor([prompt]), max_new_tokens=64)[0, len(prompt) :].tolist()
        length = int(trained.lengths[row, 0])
        assert written[:length] == trained.completion_ids[row, 0, :length].tolist()
    names = {path.name for path in (tmp_path / "published").iterdir()}
    assert {"model.safetensors", "tokenizer.json", "generation_config.json", "README.md"} <= names
    assert not any("adapter" in name for name in names)
    assert tokenizer.chat_template
    assert model.generation_config.do_sample is False


@pytest.mark.slow
def test_the_card(train, tmp_path):
    assert train("seed=3", f"hydra.run.dir={tmp_path / 'runs' / 'one'}") == 0
    evaluate(["policy=runs/one", "benchmark=tiny", "limit=8", "max_new_tokens=64", "out=measured"])
    main(["run=runs/one", "out=published", "evaluation=measured", "name=my-policy"])
    text = (tmp_path / "published" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    metadata = yaml.safe_load(head)
    (index,) = metadata["model-index"]
    assert index["name"] == "my-policy"
    metrics = [metric for entry in index["results"] for metric in entry["metrics"]]
    assert [metric["type"] for metric in metrics] == ["pass@1", "greedy", "accuracy"]
    for metric in metrics:
        low, high = metric["args"]["confidence_interval_95"]
        assert 0 <= low <= metric["value"] <= high <= 100
    result = json.loads((tmp_path / "runs" / "one" / "result.json").read_text())
    assert metrics[0]["value"] == pytest.approx(100 * result["metrics"]["heldout/pass@1/after"], abs=0.01)
    assert "- seed: `3`" in body
    assert "Overlap with benchmarks: not checked." in body
    assert "steps=2" in body
    for file in (tmp_path / "published").glob("*.*"):
        if file.suffix in (".md", ".json"):
            assert str(tmp_path) not in file.read_text(), file


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], ["run and out has no value"]),
        (["rnu=a", "out=b"], ["rnu=a", "Did you mean run="]),
        (["run=nowhere", "out=b"], ["run=nowhere", "not a run folder"]),
        (["run=broken", "out=b"], ["interrupted", "allow_unfinished=true", "resume=broken"]),
        (["run=broken", "out=b", "allow_unfinished=true"], ["saved no policy"]),
        (["run=done", "out=broken"], ["out=broken", "something in it"]),
        (["run=done", "out=b", "evaluation=broken"], ["evaluation=broken", "results.json"]),
    ],
)
def test_refusals(tmp_path, monkeypatch, capsys, arguments, wanted):
    monkeypatch.chdir(tmp_path)
    for name, state in (("broken", "running"), ("done", "finished")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps({"state": state, "run": name}))
        (tmp_path / name / "config.yaml").write_text("steps: 1\n")
    load_policy("tiny").save(tmp_path / "done" / "policy")
    with pytest.raises(SystemExit) as left:
        main(arguments)
    text = capsys.readouterr().err
    assert left.value.code == 2
    assert all(part in text for part in wanted), text
    assert "Traceback" not in text
    assert not (tmp_path / "b").exists()
