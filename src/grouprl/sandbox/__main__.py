"""``python -m grouprl.sandbox``: what this machine's sandbox stops."""

from grouprl.sandbox.trial import limited_report

raise SystemExit(limited_report())
