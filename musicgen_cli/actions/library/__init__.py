"""What is done with stored takes: copied out, taken in, traced, made again."""
