"""How replicas come to agree again: hints, comparison of ranges, and their schedule."""
