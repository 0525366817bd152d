"""Rebuild the embedded policy from nothing: ``python -m grouprl.data.tiny.build OUT_DIR`` (about 5 CPU minutes).

A supervised warm start: clean solutions first, then a mixture of styles, so that the policy knows how to solve
the task and shows it only some of the time. Reinforcement learning then has something to select.
Only training chains are shown (see `grouprl.data.tiny.task`).
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from grouprl.data.tiny.task import TinyProblem, problems, solution

SEED = 0
STEPS = 3400
CLEAN_STEPS = 2900
BATCH = 32
LEARNING_RATE = 3e-3
DECAY_FROM = 0.6
"""Fraction of the steps after which the learning rate decays linearly to zero."""
STYLE_RATES = {"steps": 0.82, "box": 0.82, "notation": 0.8}
"""Share of each style in the mixed phase, drawn independently."""
SLIP_RATE = 0.12
"""Share of the steps of a mixed-phase solution whose result is wrong: the policy is then unsure of its arithmetic."""
MEAN_TOKENS = 1500
"""Constant that divides the summed loss: about the trained tokens of a batch."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(vocab_size: int = 433) -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits and a ChatML template, trained on the task's own text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    stream = problems("train", seed=SEED)
    corpus = ["user\nassistant\n"] * 50
    for style in range(2000):
        problem = next(stream)
        corpus += [problem.text, solution(problem, notation=style % 3 > 0, box=style % 4 > 0)]
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A randomly initialised Qwen2 of about 340 thousand parameters."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.05,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config)


def warm_start(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, *, steps: int = STEPS) -> None:
    """Train the model in place on solutions of training problems, with the loss on completions alone."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    decay_from = int(steps * DECAY_FROM)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 50) * min(1.0, (steps - step) / (steps - decay_from))
    )
    stream, rng = problems("train", seed=SEED + 1), random.Random(SEED)
    clean_steps = steps * CLEAN_STEPS // STEPS
    started = time.process_time()
    for step in range(steps):
        batch = [next(stream) for _ in range(BATCH)]
        styles = [_style(rng, problem) if step >= clean_steps else {} for problem in batch]
        input_ids, labels, mask = _encode(tokenizer, batch, styles)
        logits = model(input_ids=input_ids, attention_mask=mask).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
        )
        optimizer.zero_grad()
        (loss / MEAN_TOKENS).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            tokens = int((labels != -100).sum())
            print(f"step {step:5d}  loss/token {loss.item() / tokens:.3f}  cpu {time.process_time() - started:.0f} s")


def _style(rng: random.Random, problem: TinyProblem) -> dict[str, Any]:
    """A random style with random slips; none before a division, which has to come out even."""
    operators = [op for op, _ in problem.chain.operations[1:]] + [""]
    slips = {
        number: rng.choice((-10, -2, -1, 1, 2, 10))
        for number, following in enumerate(operators, start=1)
        if rng.random() < SLIP_RATE and following != "/"
    }
    return {"slips": slips} | {name: rng.random() < rate for name, rate in STYLE_RATES.items()}


def _encode(
    tokenizer: PreTrainedTokenizerFast, batch: list[TinyProblem], styles: list[dict[str, Any]]
) -> tuple[Tensor, Tensor, Tensor]:
    rows, labels = [], []
    for problem, style in zip(batch, styles, strict=True):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": problem.text}], add_generation_prompt=True, tokenize=False
        )
        prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
        target_ids = [*tokenizer.encode(solution(problem, **style), add_special_tokens=False), tokenizer.eos_token_id]
        rows.append(torch.tensor(prompt_ids + target_ids))
        labels.append(torch.tensor([-100] * len(prompt_ids) + target_ids))
    pad = torch.nn.utils.rnn.pad_sequence
    mask = pad([torch.ones_like(row) for row in rows], batch_first=True)
    return pad(rows, batch_first=True), pad(labels, batch_first=True, padding_value=-100), mask


def main() -> None:
    """Build tokenizer and model, train, and save a Hugging Face folder."""
    parser = argparse.ArgumentParser(description="Rebuild the embedded policy and tokenizer.")
    parser.add_argument("out", type=Path, help="folder to write (created)")
    parser.add_argument("--steps", type=int, default=STEPS, help="supervised steps (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; 1 gives the shipped weights")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(arguments.threads)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    warm_start(model, tokenizer, steps=arguments.steps)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    recipe = {
        "seed": SEED,
        "steps": arguments.steps,
        "batch": BATCH,
        "lr": LEARNING_RATE,
        "styles": STYLE_RATES,
        "slips": SLIP_RATE,
    }
    (arguments.out / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n")
    print(f"saved to {arguments.out}")


if __name__ == "__main__":
    main()
