"""Saga definitions and what they talk to. Nothing here knows the engine: only what it exports."""
