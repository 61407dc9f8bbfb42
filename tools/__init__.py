"""Programs for those who work on nstd."""
