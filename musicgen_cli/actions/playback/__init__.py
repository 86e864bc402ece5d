"""Sound that is heard: stored takes, and takes while they are made."""
