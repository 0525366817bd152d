"""From a command line to a checked configuration, before anything heavy is imported."""
