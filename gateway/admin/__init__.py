"""The admin listener: health, metrics, REST. Lives in the supervisor, asks workers over their sockets."""
