"""The foundations of the package: exceptions and their messages, checks of arguments, memory, threads."""
