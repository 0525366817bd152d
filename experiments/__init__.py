"""Studies and the experiments they are made of."""
