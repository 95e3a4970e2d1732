"""Who takes part: nodes that lost their disk, and nodes whose state differs from the others'."""
