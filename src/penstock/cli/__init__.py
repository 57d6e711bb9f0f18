"""The command line of Penstock: one module a command, and the modules that commands share."""
