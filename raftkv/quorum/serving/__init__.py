"""What a node does as a replica, for the coordinators of others and for its own clients."""
