"""Which mount holds a bucket and key, and which rule applies to it. Pure."""
