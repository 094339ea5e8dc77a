"""An engine that computes nothing: it takes the time that a profile says, and makes as many bytes. Knows no torch."""
