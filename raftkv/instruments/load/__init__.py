"""The load generator: many clients, one fast HTTP connection each, and what their answers say. Drives any cluster."""
