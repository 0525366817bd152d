"""``python -m grouprl.sampling.tools``: what this machine's sandbox stops."""

from grouprl.sampling.tools.trial import limited_report

raise SystemExit(limited_report())
