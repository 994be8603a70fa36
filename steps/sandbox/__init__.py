"""A development stand-in for the payment provider: a real HTTP server with a memory.

It answers as the provider does where money depends on it: idempotency keys, the life of a payment
intent, declines by test token, and the ways in which an answer gets lost. How to ask for trouble
stands in ``steps.sandbox.faults``; ``python -m steps.sandbox --help`` says how to start it.
"""
