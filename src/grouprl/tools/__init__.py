"""Tools a policy may use while it reasons: Python code, run in a sandbox.

``python -m grouprl.tools`` tries a list of attacks on this machine and prints what stopped each.
"""

from grouprl.tools.sandbox import Sandbox, SandboxError, ToolOutput
from grouprl.tools.transcript import OUTPUT_FENCE, output_text, pending_code, shorten

__all__ = ["OUTPUT_FENCE", "Sandbox", "SandboxError", "ToolOutput", "output_text", "pending_code", "shorten"]
