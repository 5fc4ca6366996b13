"""Our bookkeeping: StateStore and VectorCache implementations."""
