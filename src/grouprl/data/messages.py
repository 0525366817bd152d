"""System messages that several parts of the package ask a policy with."""

BOX = r"Please reason step by step, and put your final answer within \boxed{}."
"""Chain of thought (Qwen2.5-Math, arXiv 2409.12122)."""
TOOLS = (
    "Please integrate natural language reasoning with programs to solve the problem above, and put your final answer "
    r"within \boxed{}."
)
"""Tool-integrated reasoning (the same report)."""
