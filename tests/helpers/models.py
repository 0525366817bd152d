"""Small models and tokenizers as transformers makes them."""

from __future__ import annotations

import torch


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
    """A small random model of an architecture, by the name of its configuration in transformers: qwen2, gpt2, lfm2."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    torch.manual_seed(0)
    shared = {"vocab_size": 400, "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None}
    if kind == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 1024}
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**sizes, **shared, **changes}))
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 1, "max_position_embeddings": 1024}
    return transformers.AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**{**sizes, **shared, **changes}))
