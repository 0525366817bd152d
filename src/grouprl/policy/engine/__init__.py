"""The two verbs of a policy, faster, for the architectures known here; its one door is `grouprl.policy.policy`."""
