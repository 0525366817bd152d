"""The work both sides of a benchmark do: sizes, random models, prompts, lengths that are forced on both."""

from __future__ import annotations

import ctypes
import gc
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from grouprl.batch import Prompts
from grouprl.data.exemplars import read_exemplars
from grouprl.data.problems import word_problems
from grouprl.data.prompts import encode, render
from grouprl.policy.fetch import fetch

EOS = 1
"""The end of a sequence in a model of random weights."""
SEED = 0


@dataclass(frozen=True)
class Size:
    """A model and a batch. Token counts are drawn evenly from ranges, so that rows are ragged as real ones are."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    prompts: int
    group: int
    epochs: int
    prompt_tokens: tuple[int, int]
    """Fewest and most tokens of a prompt."""
    new_tokens: tuple[int, int]
    """Fewest and most tokens of a completion."""
    policy: str = ""
    """A policy with real weights, by its name (`grouprl.policy.fetch`), and real prompts; empty: random ones."""
    eos: int = EOS

    def __post_init__(self) -> None:
        if self.group % 2:
            # Rewards are 0, 1, ... in a group: the middle of an odd number gets no advantage, and would be skipped.
            raise ValueError(f"group={self.group}: give an even number.")

    @property
    def sequences(self) -> int:
        """Completions of a step."""
        return self.prompts * self.group

    def with_ratio(self, prompt: int, new: int) -> Size:
        """As many tokens of a prompt and a completion in the mean, divided between them as ``prompt`` to ``new``."""
        if self.policy:
            raise SystemExit(f"--ratios: the prompts of {self.name} are real ones. Use --ratios default.")
        tokens = (sum(self.prompt_tokens) + sum(self.new_tokens)) / 2
        share = prompt / (prompt + new)
        return replace(
            self, prompt_tokens=_around(tokens * share, 1 / 3), new_tokens=_around(tokens * (1 - share), 3 / 4)
        )


SIZES = {
    size.name: size
    for size in (
        Size("A", 192, 3, 3, 1, 512, 1024, 8, 8, 4, (48, 96), (16, 112)),
        Size("B32", 512, 8, 8, 2, 1408, 32_000, 1, 8, 4, (48, 96), (16, 112)),
        Size("B152", 512, 8, 8, 2, 1408, 151_936, 1, 4, 4, (48, 96), (16, 112)),
        # Qwen2.5-1.5B's shape, with random weights.
        Size("Q1.5", 1536, 28, 12, 2, 8960, 151_936, 16, 4, 4, (96, 192), (256, 256)),
        # SmolLM2-135M-Instruct itself, word problems with three worked examples before each.
        Size("S135", 576, 30, 9, 3, 1536, 49_152, 2, 8, 1, (191, 192), (8, 32), policy="smollm2", eos=2),
        Size("toy", 64, 2, 2, 1, 128, 300, 2, 4, 2, (5, 9), (3, 12)),
    )
}


def _around(mean: float, spread: float) -> tuple[int, int]:
    return max(1, round(mean * (1 - spread))), max(1, round(mean * (1 + spread)))


def build_model(size: Size, device: str = "cpu") -> torch.nn.Module:
    """A Qwen2 model of a size with random weights, the same at every call; or the model that the size names."""
    from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

    if size.policy:
        model = AutoModelForCausalLM.from_pretrained(fetch(size.policy), dtype=torch.float32).eval()
        shape = model.config.hidden_size, model.config.num_hidden_layers, model.config.vocab_size
        assert shape == (size.hidden, size.layers, size.vocabulary), f"{size.name} is not {size.policy}: {shape}"
        return model.to(device)
    torch.manual_seed(SEED)
    config = Qwen2Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        intermediate_size=size.intermediate,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=EOS,
        pad_token_id=0,
    )
    with torch.device(device):
        return Qwen2ForCausalLM(config).eval()


def build_tokenizer(size: Size):
    """A tokenizer with one word for each token: ``t17`` is token 17; or that of the model that the size names."""
    if size.policy:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(fetch(size.policy), padding_side="left")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "<eos>": EOS} | {f"t{token}": token for token in range(2, size.vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )


def build_prompts(size: Size) -> Prompts:
    """Random prompts of a size, or word problems with worked examples; the same at every call."""
    if size.policy:
        tokenizer, problems = build_tokenizer(size), word_problems(size.prompts, 0, (1, 0, 0, 0)).train
        shots = read_exemplars("words")
        made = encode(tokenizer, problems, style="plain", exemplars=shots)
        texts = [render(tokenizer, p.problem, style="plain", exemplars=shots) for p in problems]
        return replace(made, problems=tuple(texts))
    rng = np.random.default_rng(SEED)
    lengths = rng.integers(size.prompt_tokens[0], size.prompt_tokens[1] + 1, size.prompts)
    token_ids = [rng.integers(2, size.vocabulary, length).tolist() for length in lengths]
    return Prompts(
        problems=tuple(" ".join(f"t{token}" for token in row) for row in token_ids),
        answers=("",) * size.prompts,
        token_ids=tuple(map(tuple, token_ids)),
        indices=tuple(range(size.prompts)),
    )


def completion_lengths(size: Size, iteration: int = 0) -> Tensor:
    """Tokens of each completion, the end included, [prompts * group]; some row is as long as any may be."""
    rng = np.random.default_rng((SEED + 1, iteration))
    lengths = rng.integers(size.new_tokens[0], size.new_tokens[1] + 1, size.sequences)
    lengths[rng.integers(size.sequences)] = size.new_tokens[1]
    return torch.from_numpy(lengths)


def force_end(logits: Tensor, ends_now: Tensor, eos: int) -> Tensor:
    """Logits [rows, vocabulary] that give the end to the rows that end now, and never to the others.

    One copy of the logits and one column: what forcing costs is in the seconds of both sides.
    """
    logits = logits.masked_fill(ends_now.unsqueeze(-1), -torch.inf)
    logits[:, eos] = torch.where(ends_now, 0.0, -torch.inf)
    return logits


class Clock:
    """Seconds of work, by phase: CPU seconds of this process, or of the clock on the wall where a GPU works."""

    def __init__(self, device: str, *, wall: bool = False) -> None:
        self.device, self.wall, self.phases = device, wall or device != "cpu", dict[str, float]()
        self.calls: Counter[str] = Counter()
        """Watched calls of each phase since `take`."""

    def now(self) -> float:
        """The time, after all that was launched is done."""
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() if self.wall else time.process_time()

    def watch(self, owner: object, method: str, phase: str) -> None:
        """Add the time of each call of ``owner.method`` to a phase. Watched calls must not contain each other."""
        function = getattr(owner, method)

        def timed(*args, **kwargs):
            self.calls[phase] += 1
            started = self.now()
            try:
                return function(*args, **kwargs)
            finally:
                self.phases[phase] = self.phases.get(phase, 0.0) + self.now() - started

        object.__setattr__(owner, method, timed)

    def take(self) -> dict[str, float]:
        """The seconds of each phase since the last call."""
        phases, self.phases = self.phases, {}
        self.calls.clear()
        return phases


class Memory:
    """Peak memory above what was held when it was made, in MiB: of the GPU, or resident on Linux."""

    def __init__(self, device: str) -> None:
        self.device = device
        gc.collect()
        if device == "cpu":
            # Memory that was freed and kept by the C library would be used again without being seen.
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # start the high-water mark anew
            self.before = self._status("VmRSS")
        else:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated() / 2**20

    def peak(self) -> float:
        """MiB above the start, at most, since the start."""
        now = self._status("VmHWM") if self.device == "cpu" else torch.cuda.max_memory_allocated() / 2**20
        return now - self.before

    @staticmethod
    def _status(key: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key + ":"))
