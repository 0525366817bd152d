"""Model families: real classes with few random weights, and tokenizers and templates with the traits of each family.

The templates are written here; what they have in common with the families' own are the traits that are named beside
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

CORPUS = ["How many apples are there? The answer is 12. Step 1: we add 3 and 4 and get 7, that is \\boxed{7}."] * 20
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DEFAULT_SYSTEM = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe of help.<|im_end|>\n{% endif %}" + CHATML
THINKING = CHATML.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
)
HEADERS = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{% if loop.first %}Today Date: {{ strftime_now('%d %b %Y') }}\n\n{% endif %}{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
"""With today's date, and its own beginning of a sequence."""
TURNS = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
"""Without a system role, and an end of turn that is no end of sequence."""
INSTRUCTIONS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
    "{% elif m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported') }}{% endif %}{% endfor %}"
)
"""Without a beginning of the answer: add_generation_prompt changes nothing."""
ENDS = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}


@dataclass(frozen=True)
class Family:
    """What is particular to a family."""

    kind: str
    """Name of the configuration in transformers."""
    template: str | None
    special: Sequence[str]
    """Special tokens, the first one the padding's place where there is none."""
    eos: str
    turn_end: str
    """The token that ends an answer."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, Any] = field(default_factory=lambda: SIZES)
    bos: str | None = None
    pad: str | None = None
    adds_bos: bool = False
    adds_eos: bool = False
    targets: str | list[str] = "all-linear"

    def tokenizer(self) -> Any:
        """A byte-level BPE tokenizer with the family's special tokens, post-processor and template."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
        from transformers import PreTrainedTokenizerFast

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=list(self.special), initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(CORPUS, trainer)
        around = [self.bos] * self.adds_bos, [self.eos] * self.adds_eos
        if self.adds_bos or self.adds_eos:
            tokenizer.post_processor = processors.TemplateProcessing(
                single=[*around[0], "$A", *around[1]],
                special_tokens=[(token, tokenizer.token_to_id(token)) for token in {*around[0], *around[1]}],
            )
        named = {"bos_token": self.bos, "pad_token": self.pad, "chat_template": self.template}
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            eos_token=self.eos,
            **{name: value for name, value in named.items() if value is not None},
        )

    def save(self, folder: Path) -> Path:
        """Write model and tokenizer as a folder of the hub."""
        import transformers
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        tokenizer = self.tokenizer()
        ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
        config = CONFIG_MAPPING[self.kind](**{**self.sizes, "vocab_size": len(tokenizer) + 8, **ids, **self.changes})
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():  # an untrained model's tokens would all be likely alike
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1 and "embed" not in name:
                    parameter.mul_(3.0)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder


_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
FAMILIES = {
    "Qwen2.5": Family("qwen2", DEFAULT_SYSTEM, _CHATML, "<|im_end|>", "<|im_end|>", pad="<|endoftext|>"),
    "Qwen2.5 base": Family("qwen2", DEFAULT_SYSTEM, _CHATML, "<|endoftext|>", "<|im_end|>", pad="<|endoftext|>"),
    "Qwen3": Family(
        "qwen3", THINKING, (*_CHATML, "<think>", "</think>"), "<|im_end|>", "<|im_end|>", pad="<|endoftext|>"
    ),
    "Qwen3.5, linear attention": Family(
        "qwen3_5_text", THINKING, (*_CHATML, "<think>", "</think>"), "<|im_end|>", "<|im_end|>",
        {**LINEAR, "layer_types": ["linear_attention", "full_attention"]}, pad="<|endoftext|>",
    ),
    "Qwen3 MoE": Family(
        "qwen3_moe", THINKING, _CHATML, "<|im_end|>", "<|im_end|>",
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}, pad="<|endoftext|>",
    ),
    "Llama 3": Family(
        "llama", HEADERS, ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|end_of_text|>", "<|eot_id|>", bos="<|begin_of_text|>", adds_bos=True,
    ),
    "Gemma 3": Family(
        "gemma3_text", TURNS, ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), "<eos>", "<end_of_turn>",
        {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]},
        bos="<bos>", pad="<pad>", adds_bos=True,
    ),
    "Mistral": Family(
        "mistral", INSTRUCTIONS, ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"), "</s>", "</s>",
        {"sliding_window": None}, bos="<s>", adds_bos=True,
    ),
    "Mixtral": Family(
        "mixtral", INSTRUCTIONS, ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"), "</s>", "</s>",
        {"num_local_experts": 4}, bos="<s>", adds_bos=True,
    ),
    "Phi-3": Family(
        "phi3", ENDS, ("<s>", "<|endoftext|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"), "<|endoftext|>",
        "<|end|>", {"sliding_window": 24}, bos="<s>", pad="<|endoftext|>",
    ),
    "GPT-2": Family(
        "gpt2", None, ("<|endoftext|>",), "<|endoftext|>", "<|endoftext|>", bos="<|endoftext|>",
        sizes={"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},
    ),
    "SmolLM2": Family(
        "llama", DEFAULT_SYSTEM, _CHATML, "<|im_end|>", "<|im_end|>", {"tie_word_embeddings": True},
        bos="<|im_start|>", pad="<|im_end|>",
    ),
    "LFM2, convolutions": Family(
        "lfm2", "{{ bos_token }}" + CHATML, ("<|pad|>", "<|startoftext|>", *_CHATML), "<|im_end|>", "<|im_end|>",
        {"layer_types": ["conv", "full_attention"]}, bos="<|startoftext|>", pad="<|pad|>", adds_bos=True,
    ),
    "OLMo 2, a tokenizer that ends its texts": Family(
        "olmo2", None, ("<|pad|>", "<|endoftext|>", "<s>"), "<|endoftext|>", "<|endoftext|>",
        bos="<s>", pad="<|pad|>", adds_bos=True, adds_eos=True,
    ),
}  # fmt: skip
