"""What clients ask of a simulated fleet: traces of real services, and made-up arrivals."""
