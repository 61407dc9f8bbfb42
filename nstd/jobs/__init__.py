"""What is to be done and where it stands: specs, grouping, ledger, spool."""
