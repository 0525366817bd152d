"""The command lines: compose and check a configuration, build its objects, do the job. Hydra is imported here alone."""
