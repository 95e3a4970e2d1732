"""Locks and elections, as plans over what a cluster with a leader offers anyway. Imports ``core`` only."""
