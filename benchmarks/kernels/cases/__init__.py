"""What is compiled and timed of each op: one module an op, with CASES and, where the CPU has a form, CPU_CASES."""
