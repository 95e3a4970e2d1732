"""Who belongs to the cluster: the configuration in force, and changes of it."""
