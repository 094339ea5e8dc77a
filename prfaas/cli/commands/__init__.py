"""The commands of `prfaas`, by theme: options and help texts. They import what they run when they run it."""
