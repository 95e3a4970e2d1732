"""Writes: proposals and their outcomes, appends to the log, and who can see what was applied."""
