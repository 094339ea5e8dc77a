"""What one instance computes in its next step. Decides; neither computes nor sends."""
