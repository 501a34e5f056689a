"""The command line: one file a group of commands. Parses, calls, prints; exit codes 0 done, 1 failed, 2 bad usage or config, 3 no gateway answered."""
