"""The command ``raftkv``: what a person types, and the exit statuses that scripts rely on."""
