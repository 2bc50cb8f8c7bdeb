"""The machine: ranks, and what decides the bits of a computation."""
