"""Seeded runs of the real step loop over a simulated log, with faults, and the invariants that are checked on them."""
