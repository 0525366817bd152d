"""From logprobs and advantages to a loss: gate, ratio level, aggregation, KL and sampler correction, an axis each."""
