"""Music from text in the shell: every take kept, with everything that made it."""

__version__ = "0.1.0"
