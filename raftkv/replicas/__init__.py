"""Builds the replica that a configuration asks for; ``building`` chooses the mode."""
