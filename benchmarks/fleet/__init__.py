"""The PrfaaS paper's case study (s4) live on emulated accelerators, beside what the simulator says of the same runs."""
