"""Studies from and to files: tables of any trainer, files of lm-eval and TRL, published studies. No test is run."""
