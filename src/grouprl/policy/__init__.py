"""The model and its two verbs: logprobs of completions, and logits of next tokens."""
