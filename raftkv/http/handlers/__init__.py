"""The handlers: pure functions from HTTP requests to requests of core, and from outcomes to responses."""
