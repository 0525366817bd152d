"""The two operations of a policy, faster, for the architectures known here; entered from `grouprl.policy` only."""
