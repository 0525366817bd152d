"""From the text of an answer to what it is: tokens, sympy values, and structures of them."""
