"""A page of takes, to look at and listen to."""
