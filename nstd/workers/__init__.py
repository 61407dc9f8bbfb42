"""Who paints: one supervised child process per device."""
