"""The model and its two operations: logprobs of completions, and logits of next tokens."""
