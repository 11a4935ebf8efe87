"""A campaign against the commands: damaged input, kills and faults, each case in a process of its own."""
