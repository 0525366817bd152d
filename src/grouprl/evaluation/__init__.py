"""What a policy can do: held-out problems during training, and benchmarks."""
