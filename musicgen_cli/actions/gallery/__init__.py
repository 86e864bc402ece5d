"""A web page with takes to look at and listen to."""
