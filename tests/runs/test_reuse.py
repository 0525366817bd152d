"""Components in somebody else's Lightning project: no Hydra, no OmegaConf."""

import os
import re
import subprocess
import sys

import pytest
from helpers.paths import ROOT

BLOCK_HYDRA = """
import sys
sys.modules.update(hydra=None, omegaconf=None)  # importing either now raises ModuleNotFoundError
"""

OWN_MODULE = """
import lightning as L
import torch
from grouprl import LossInputs, PolicyLoss, RankAdvantage

class Bandit(L.LightningModule):
    '''A policy over eight tokens; the reward is the token. Its own logprobs, its own loop, automatic optimisation.'''
    def __init__(self):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(8))
        self.advantage, self.loss, self.rewards = RankAdvantage(), PolicyLoss(), []

    def training_step(self, batch, batch_idx):
        groups, group_size = 16, 8
        distribution = torch.distributions.Categorical(logits=self.logits)
        tokens = distribution.sample((groups, group_size))
        rewards = tokens.float()
        self.rewards.append(float(rewards.mean()))
        logprobs = distribution.log_prob(tokens).flatten().unsqueeze(-1)
        inputs = LossInputs(
            old_logprobs=logprobs.detach(),
            advantages=self.advantage(rewards).flatten(),
            mask=torch.ones_like(logprobs, dtype=torch.bool),
            token_weights=torch.full((groups * group_size,), 1 / (groups * group_size)),
        )
        return self.loss(logprobs, inputs).loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.1)

torch.manual_seed(0)
module = Bandit()
L.Trainer(max_steps=60, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False).fit(
    module, torch.utils.data.DataLoader(range(60))
)
assert sum(module.rewards[:5]) / 5 < 4.5 and sum(module.rewards[-5:]) / 5 > 6.5, module.rewards
assert sys.modules["hydra"] is None and sys.modules["omegaconf"] is None
print("learned")
"""


def run(code, cwd):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=200, cwd=cwd, env=environment
    )


@pytest.mark.slow
def test_another_lightning_module_without_hydra(tmp_path):
    done = run(BLOCK_HYDRA + OWN_MODULE, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "learned" in done.stdout


def test_the_readmes_lines_run_without_hydra(tmp_path):
    readme = (ROOT / "README.md").read_text()
    (lines,) = re.findall(r"<!-- reuse -->\n```python\n(.*?)```", readme, re.DOTALL)
    assert len([line for line in lines.splitlines() if line.strip()]) == 5
    done = run(f"{BLOCK_HYDRA}\n{lines}\nassert advantages.shape == rewards.shape", tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_readmes_loss_runs_without_hydra(tmp_path):
    (lines,) = re.findall(r"<!-- reuse-loss -->\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    # The longest sequence's tokens weigh a half of 1/10 each: its group has 10, and there are two groups.
    check = "assert abs(float(logprobs.grad[0, 0]) + 1 / 20) < 1e-6 and bool((logprobs.grad[1, 4:] == 0).all())"
    done = run(f"{BLOCK_HYDRA}\n{lines}\n{check}", tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["hydra", "omegaconf", "torch", "transformers", "lightning"])
def test_importing_the_package_imports_nothing_heavy(name, tmp_path):
    done = run(
        f"import grouprl, sys; assert {name!r} not in sys.modules; assert 'RankAdvantage' in dir(grouprl)", tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_importable():
    import grouprl

    for name in grouprl.__all__:
        assert getattr(grouprl, name) is not None
    with pytest.raises(AttributeError, match="Nothing"):
        _ = grouprl.Nothing


@pytest.mark.slow
def test_a_clone_beside_the_caller_hides_nothing(tmp_path):
    """In the parent folder of a clone that is called as the package is."""
    for name in ("src/grouprl", "conf", "tests"):
        (tmp_path / "grouprl" / name).mkdir(parents=True)
    done = run("from grouprl import RankAdvantage; print(RankAdvantage.__module__)", tmp_path)
    assert (done.returncode, done.stdout) == (0, "grouprl.advantages.rank\n"), done.stderr
