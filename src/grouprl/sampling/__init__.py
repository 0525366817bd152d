"""Groups of completions for each prompt, with the logprobs they were drawn with."""
