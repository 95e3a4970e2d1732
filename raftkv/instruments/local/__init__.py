"""Clusters of real processes on this machine: started, asked, paused, killed, started again, and always ended."""
