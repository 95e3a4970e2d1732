"""What drives and judges clusters: the laboratory, the load tester and the simulator. No server imports any of it."""
