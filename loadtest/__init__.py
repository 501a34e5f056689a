"""The benchmark harness: starts the gateway and its peers, loads them alike, prints ratios.

    pattern     what every byte of every object is, from its name alone: any range of any size can be verified
    origin      the truth: a cheap S3-like server that serves the pattern and counts what it sent
    wan         a TCP relay with a round trip time and a rate per connection
    signing     SigV4 in bulk, ahead of the run, so that the generator only moves bytes
    client      the load generator: keep-alive connections, raw sockets, one epoll
    slow        slow readers and uploads: the loads whose subject is the server's memory
    procs       processes under test: pinning, CPU time and memory of a whole process tree
    peers       how each system is configured and started: gateway, nginx, rclone, the origin itself
    results     values that scenarios return, and the figures they are judged by
    report      tables, JSON and the plot
    scenarios/  one question each

Everything listens on and connects to 127.0.0.1. Every loop is bounded in count or time.
"""
