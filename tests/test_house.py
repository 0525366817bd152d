"""The house: packages and their arrows as docs/architecture.md draws them, no circle, and an engine that can be missing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import lru_cache
from graphlib import TopologicalSorter
from importlib import import_module

import pytest
from helpers.paths import ROOT

SOURCE = ROOT / "src" / "grouprl"
MODULES = {
    ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in SOURCE.rglob("*.py")
}


@lru_cache
def imports_of(module):
    """Modules of the package that a module imports, at its top or later, those for type checkers left out."""
    found = set()
    tree = ast.parse(MODULES[module].read_text())
    skipped = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and getattr(branch.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and node not in skipped:
            found |= {alias.name for alias in node.names if alias.name.startswith("grouprl")}
        if isinstance(node, ast.ImportFrom) and node not in skipped and (node.module or "").startswith("grouprl"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return found - {"grouprl"}


def room_of(module):
    """The package or module on the top floor that a module lies in; the engine by itself."""
    return "policy.engine" if module.startswith("grouprl.policy.engine") else module.split(".")[1]


def arrows():
    """Which rooms import which."""
    found = {}
    for module in MODULES:
        if module != "grouprl":
            rooms = {room_of(other) for other in imports_of(module)} - {room_of(module)}
            found.setdefault(room_of(module), set()).update(rooms)
    return found


def diagram():
    """The rooms floor by floor, each with those it imports: what stands in docs/architecture.md."""
    text = (ROOT / "pyproject.toml").read_text()
    layers = re.findall(r'"([^"]+)"', re.search(r"^layers = \[(.*?)\]", text, re.DOTALL | re.MULTILINE).group(1))
    known, lines = arrows(), []
    width = max(len(layer) for layer in layers)
    for number, layer in enumerate(layers, start=1):
        for room in layer.split(" | "):
            head = f"{number:>2}  {layer:<{width}}" if room == layer else f"{number:>2}  {room:<{width}}"
            lines.append(f"{head}  -> {' '.join(sorted(known[room])) or '(none)'}")
            if room == "policy":
                lines.append(f"    {'policy.engine':<{width}}  -> {' '.join(sorted(known['policy.engine']))}")
    return "\n".join(lines)


def test_the_diagram_in_the_docs_is_what_the_imports_are():
    text = (ROOT / "docs" / "architecture.md").read_text()
    (drawn,) = re.findall(r"<!-- packages -->\n```text\n(.*?)\n```", text, re.DOTALL)
    assert drawn == diagram(), f"docs/architecture.md has drifted; it should say:\n{diagram()}"


def test_no_module_imports_itself_through_others():
    list(TopologicalSorter({module: imports_of(module) for module in MODULES}).static_order())


def test_the_engine_is_imported_at_one_place():
    doors = [
        m
        for m in MODULES
        if room_of(f"{m}.") != "policy.engine" and any(room_of(o) == "policy.engine" for o in imports_of(m))
    ]
    assert doors == ["grouprl.policy.policy"]
    text = MODULES["grouprl.policy.policy"].read_text()
    assert text.count("from grouprl.policy.engine") == 2  # for type checkers, and in the door


def test_no_import_is_tried():
    """A part that is missing is not papered over."""
    for module, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Try):
                inside = [n for statement in node.body for n in ast.walk(statement)]
                own = [n for n in inside if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("grouprl")]
                assert not own, f"{module} tries an import"


@pytest.mark.parametrize("package", sorted({m.rpartition(".")[0] for m in MODULES if m.count(".") > 1}))
def test_packages_are_small_and_say_what_they_are_for(package):
    folder = MODULES[package].parent
    files = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
    assert len(files) <= 12
    assert all(len(file.read_text().splitlines()) <= 400 for file in files)
    (charter,) = ast.parse(MODULES[package].read_text()).body
    assert isinstance(charter.value, ast.Constant)
    assert charter.value.value.count(".") >= 1
    assert len(charter.value.value.splitlines()) == 1


def test_every_package_is_shipped():
    assert all((file.parent / "__init__.py").exists() for file in MODULES.values())  # else setuptools does not find it
    for name in ("conf", "experiments"):
        assert (SOURCE / name / "__init__.py").resolve() == ROOT / name / "__init__.py"


def test_the_public_face_is_the_same_for_type_checkers():
    import grouprl

    tree = ast.parse(MODULES["grouprl"].read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {(node.module.removeprefix("grouprl."), alias.name) for node in block.body for alias in node.names}
    assert typed == {(module, name) for name, module in grouprl._MODULE_OF.items()}


WITHOUT_ENGINE = """
import sys, types
empty = types.ModuleType("grouprl.policy.engine")
empty.__path__ = []
sys.modules["grouprl.policy.engine"] = empty
import torch
torch.set_num_threads(1)
from grouprl import GroupSampler, load_policy
from grouprl.batch import Experience
from grouprl.data.prompts import encode
from grouprl.data.problems import tiny_problems
policy = load_policy("tiny", fast=False)
prompts = encode(policy.tokenizer, tiny_problems(train_size=6, heldout_size=2).train)
rollouts = GroupSampler(group_size=4, max_new_tokens=48)(policy, prompts, seed=0)
experience = Experience(rollouts, torch.zeros_like(rollouts.lengths), torch.ones_like(rollouts.truncated))
batch = experience.minibatch(torch.arange(len(prompts)), experience.advantages)
torch.save((rollouts.completions, policy.logprobs(batch).logprobs.detach()), sys.argv[1])
try:
    load_policy("tiny").logprobs(batch)
except ModuleNotFoundError as error:
    assert "grouprl.policy.engine.entry" in str(error)
else:
    raise AssertionError("the engine was there")
"""


@pytest.mark.slow
def test_without_an_engine_the_plain_path_gives_the_same(tmp_path, tiny_policy, tiny_prompts):
    import torch

    from grouprl import GroupSampler
    from grouprl.batch import Experience

    file = tmp_path / "plain.pt"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ENGINE, str(file)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    completions, logprobs = torch.load(file)
    assert tiny_policy.has_fast_path
    rollouts = GroupSampler(group_size=4, max_new_tokens=48)(tiny_policy, tiny_prompts, seed=0)
    assert rollouts.completions == completions
    experience = Experience(rollouts, torch.zeros_like(rollouts.lengths), torch.ones_like(rollouts.truncated))
    batch = experience.minibatch(torch.arange(len(tiny_prompts)), experience.advantages)
    torch.testing.assert_close(tiny_policy.logprobs(batch).logprobs.detach(), logprobs, atol=1e-5, rtol=0)


def prose():
    """Documents and source, where files and names of the package are spoken of."""
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    return [*documents, *MODULES.values(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "conf").rglob("*.yaml")]


def test_files_that_are_spoken_of_are_there():
    names = {str(file.relative_to(ROOT)) for file in ROOT.rglob("*.py") if ".venv" not in file.parts}
    for file in prose():
        if "tests" in file.relative_to(ROOT).parts:
            continue
        for name in set(re.findall(r"`([\w/]+\.py)", file.read_text())) - {"my_file.py", "path/to/file.py", "block.py"}:
            assert any(f"/{there}".endswith(f"/{name}") for there in names), f"{file.name} names {name}"


def test_links_lead_somewhere():
    for file in (file for file in prose() if file.suffix == ".md"):
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)", file.read_text()):
            assert (file.parent / target).exists(), f"{file.name} links to {target}"


def test_names_of_the_package_that_are_spoken_of_are_there():
    for file in prose():
        for name in re.findall(r"`(grouprl(?:\.\w+)+)", file.read_text()):
            assert resolves(name), f"{file.name} names {name}"


def resolves(name):
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in MODULES:
            found = import_module(".".join(parts[:length]))
            for part in parts[length:]:
                if not hasattr(found, part) and part not in getattr(found, "__annotations__", {}):
                    return False
                found = getattr(found, part, None)
            return True
    return False


def test_every_mutation_still_breaks_something():
    """Its text is in its file once, and its test is where it says: else it tries nothing."""
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    for mutation in tomllib.loads((ROOT / "tests" / "mutations.toml").read_text())["mutation"]:
        assert (ROOT / mutation["file"]).read_text().count(mutation["old"]) == 1, mutation["name"]
        file, _, name = mutation["test"].partition("::")
        assert not name or f"def {name.partition('[')[0]}(" in (ROOT / file).read_text(), mutation["name"]


@pytest.mark.xdist_group("house")
def test_tests_that_share_a_run_are_told_to_one_process(request):
    """A pytest that the distributing plugin does not know lets every process make each shared run for itself."""
    if not hasattr(request.config, "workerinput"):
        pytest.skip("the tests run in one process")
    assert request.node.nodeid.endswith("@house")
