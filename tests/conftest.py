"""Fixtures: the embedded policy, and model folders as transformers saves them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
torch.set_num_threads(1)


@pytest.fixture
def tiny_policy():
    from grouprl.policy import load_policy

    return load_policy("tiny")


@pytest.fixture
def tiny_prompts(tiny_policy):
    from grouprl import data, prompts

    problems = data.tiny_problems(train_size=6, heldout_size=2).train
    return prompts.encode(tiny_policy.tokenizer, problems)


def bpe_tokenizer(chat: bool = True):
    """A byte-level BPE tokenizer as real models have one, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = ["How many apples are there? The answer is 12. Step 1: we add 3 and 4 and get 7."] * 20
    tokenizer.train_from_iterator(corpus, trainer)
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    arguments = {"chat_template": template} if chat else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", **arguments
    )


def random_model(kind: str, **changes):
    """A small random model of an architecture, by the name of its folder in transformers: qwen2, gpt2, qwen2_moe."""
    import transformers

    torch.manual_seed(0)
    shared = {"vocab_size": 400, "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None}
    if kind == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 1024}
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**sizes, **shared, **changes}))
    name = kind.title().replace("_", "")
    config, model = (getattr(transformers, name + part) for part in ("Config", "ForCausalLM"))
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 1, "max_position_embeddings": 1024}
    return model(config(**{**sizes, **shared, **changes}))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """Folders of random models with tokenizer and chat template, by architecture."""
    made = {}

    def make(kind: str = "qwen2") -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            random_model(kind).save_pretrained(made[kind])
            bpe_tokenizer().save_pretrained(made[kind])
        return made[kind]

    return make


@pytest.fixture
def problems_file(tmp_path):
    """A JSONL file in the schema of the benchmark files."""
    rows = [
        {"problem": f"There are {n} apples and {n + 1} pears. How many fruits?", "answer": str(2 * n + 1)}
        for n in range(40)
    ]
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def cli(tmp_path):
    """Run a script in an empty folder: ``cli("train.py", "steps=2")`` gives the finished process."""

    def run(script: str, *arguments: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / script), *arguments]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        return subprocess.run(
            command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=timeout, env=variables
        )

    return run


@pytest.fixture
def real_data():
    """The folder of real benchmark problems, where the environment names one."""
    folder = os.environ.get("GROUPRL_DATA")
    if not folder:
        pytest.skip("GROUPRL_DATA is not set: no real benchmark problems to test on")
    return Path(folder)


class Counts(list):
    """How many sequences were decoded at once, call by call."""

    limit = 6
    """Above so many, decoding runs out of memory."""


@pytest.fixture
def small_cache(monkeypatch):
    """Decoding that runs out of memory above a few sequences."""
    from grouprl import GroupSampler

    decode, counts = GroupSampler._decode, Counts()

    def limited(self, policy, prompts, group, keys):
        counts.append(len(prompts) * group)
        if counts[-1] > counts.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return decode(self, policy, prompts, group, keys)

    monkeypatch.setattr(GroupSampler, "_decode", limited)
    return counts
