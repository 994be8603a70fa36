"""The pages under ``/admin``."""
