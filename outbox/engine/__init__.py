"""The worker's engine. In the order in which a command passes: claim, execute (or transaction),
advance; beside them the lease that gives the right to all three, and the wake-up."""
