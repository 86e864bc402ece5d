"""Plays stored takes, and takes while they are generated."""
