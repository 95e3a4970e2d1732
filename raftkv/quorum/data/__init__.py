"""One replica's data: versions, rows, the way in for what others hold, hash trees, and its upkeep."""
