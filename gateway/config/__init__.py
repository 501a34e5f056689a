"""The config: from a TOML file and the environment to one checked, frozen `Config`, or one line per mistake.

schema       every key, its type and default        units        sizes and times as people write them
load         the whole way, and the wire to workers environment  GATEWAY_<SECTION>__<KEY>
checks       what several keys get wrong            standalone   what a node is without a config
mistakes     their lines                            dump         a config as TOML for people, secrets masked

Nothing here opens a socket; files are read only to be checked, and only `standalone` makes any.
"""
