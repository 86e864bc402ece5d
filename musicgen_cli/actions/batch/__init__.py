"""Many requests from rows: read, multiplied, made and resumed."""
