"""The log of a raft replica on a disk: segments, how far they reached, and reading them back."""
