"""The runs of a command line: what each is, how it begins, goes on and ends, and the folder it has to itself."""
