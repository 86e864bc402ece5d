"""What quantizing a decoder needs, without a runtime: what occurs in it, and weights that suit 8 bits."""
