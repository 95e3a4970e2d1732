"""Backups: the file that is written while it is read, what makes one of a state, and what proves that it is whole."""
