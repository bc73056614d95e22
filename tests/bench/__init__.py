"""Times of the budgets. They are printed and kept in docs/measurements.md; no test asserts one."""
