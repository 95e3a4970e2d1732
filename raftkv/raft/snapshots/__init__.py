"""Snapshots of the applied state: when they are made, how they travel, and starting from one."""
