"""Reads: rounds that confirm a leader, the gate before the applied state, and how fresh that state is."""
