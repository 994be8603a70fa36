"""The HTTP API under ``/api``: start sagas, find them, follow them, steer them, as JSON."""
