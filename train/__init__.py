"""The trainer: plans of phases, the data each phase sees, and the runs that turn a student into the next one."""
