"""Who leads: elections, whom this node follows, handing over, and the time that a leader stamps."""
