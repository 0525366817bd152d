"""How the forward passes of a run go on this machine: within its memory, over ranks, watched by guards and meters."""
