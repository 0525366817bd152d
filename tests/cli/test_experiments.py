"""The recipe's experiments and the committed studies."""

import json
import re
from statistics import mean

import pytest
from helpers.paths import ROOT

from grouprl.cli.config.compose import compose_job
from grouprl.cli.config.messages import UsageError, options_of
from grouprl.cli.config.preflight import check_job
from grouprl.studies.table import read_csv, table_of
from grouprl.training.records import read_result

RECIPES = [name for name in options_of("experiment") if name not in ("none", "tools", "smollm2_words")]
PUBLISHED = "repo_qwen2.5_math_1.5b"


def test_the_recipe_has_its_published_values():
    config = compose_job("train", [f"experiment={PUBLISHED}"])
    assert (config.group_size, config.ppo_epochs, config.lr, config.max_new_tokens) == (4, 4, 1e-6, 256)
    assert (config.eps_low, config.eps_high, config.prompt.context, config.data.limit) == (0.2, 0.2, 1024, 100)
    assert config.policy.path == "Qwen/Qwen2.5-Math-1.5B-Instruct"
    assert (config.data.name, config.data.split) == ("HuggingFaceH4/MATH-500", "test")


def test_the_published_recipe_is_refused_as_contaminated_unless_named():
    with pytest.raises(UsageError, match=r"overlap.allow=\[math500\]"):
        check_job("train", [f"experiment={PUBLISHED}"])
    check_job("train", [f"experiment={PUBLISHED}", "overlap.allow=[math500]"])


@pytest.mark.parametrize("name", [name for name in RECIPES if name != PUBLISHED])
def test_the_corrected_recipes_validate_as_they_are(name):
    config = check_job("train", [f"experiment={name}"])
    assert config.data.split == "train"
    assert config.policy.dtype == "float32"
    assert config.prompt.style == "chat"
    assert config.max_new_tokens == 2048


@pytest.mark.parametrize("name", [RECIPES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in RECIPES[1:])])
def test_the_recipes_run_on_local_folders(train, tmp_path, model_folder, name):
    data = tmp_path / "dataset"
    data.mkdir()
    rows = [
        {"problem": f"What is {n} + 1?", "solution": rf"So \boxed{{{n + 1}}}.", "answer": str(n + 1)} for n in range(20)
    ]
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    local = [f"policy.path={model_folder()}", f"data.name={data}", "data.split=train", "data.configs=null"]
    small = ["steps=2", "max_new_tokens=16", "prompts_per_step=2", "data.heldout_size=2", "prompt.context=1024"]
    assert train(f"experiment={name}", *local, *small, small=False) == 0
    (run,) = (tmp_path / "runs").iterdir()
    result = read_result(run)
    assert (result["state"], result["iterations"]) == ("finished", 2)
    assert (run / "policy" / "adapter_model.safetensors").exists() == ("lora" in name)


def readme_table(text, name="first_sweep"):
    return re.search(r"(?:^\|.*\n)+", text[text.index(f"<!-- {name} -->") :], re.MULTILINE).group(0).strip()


def test_the_sweeps_tables_are_those_of_its_results():
    results = read_csv(ROOT / "experiments" / "first_sweep" / "results.csv")
    assert len(results) == 4
    table = table_of(results)
    for file in (ROOT / "README.md", ROOT / "experiments" / "first_sweep" / "README.md"):
        assert readme_table(file.read_text()) == table, f"{file} is not what the study command prints"


def bases_table(rows):
    """Means over seeds with their range, of each base and of the control."""

    def over_seeds(found, key):
        values = [100 * row["metrics"][f"heldout/{key}"] for row in found]
        return f"{mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"

    lines = ["| | pass@1 before | after | greedy before | after |", "|---|---|---|---|---|"]
    arms = [
        ("policy-tiny__", "`policy=tiny`"),
        ("policy-tiny_b__", "`policy=tiny_b`"),
        ("policy-tiny_c__", "`policy=tiny_c`"),
    ]
    for part, name in [*arms, ("reward-format", "`reward=format`, the control")]:
        found = [row for row in rows if part in row["run"]]
        assert len(found) == 3
        keys = ("pass@1/before", "pass@1/after", "greedy/before", "greedy/after")
        lines.append(f"| {name} | " + " | ".join(over_seeds(found, key) for key in keys) + " |")
    return "\n".join(lines)


def test_the_table_of_bases_is_that_of_its_results():
    rows = read_csv(ROOT / "experiments" / "bases" / "results.csv")
    assert readme_table((ROOT / "README.md").read_text(), "bases") == bases_table(rows)
    own = (ROOT / "experiments" / "bases" / "README.md").read_text()
    assert readme_table(own, "bases") == table_of(rows)
