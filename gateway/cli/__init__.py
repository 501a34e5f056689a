"""The command line: one file a group of commands. Parses, calls, prints.

Exit codes: 0 done, 1 the work failed, 2 bad usage or config, 3 no gateway answered.
"""
