"""From a configuration file to running processes: reading and checking the file, starting nodes, watching over them."""
