"""The processes of a node: one supervisor, `workers` workers, and the channel between each pair.

Nouns: supervisor (prepares the cache, starts and restarts workers, adds up what they count, answers the admin
listener), worker (serves S3 on the shared port), slot (a worker's number, 0 … workers-1; a replacement takes
the slot of the dead), channel (`control.py`), restart policy (`restarts.py`).

    supervisor ── {"config", "slot", "workers", "rebuild"} ─▶ worker          first, once
               ◀─ {"ready": true} | {"failed": "sentence"} ─────              once
               ◀─ {"metrics": snapshot, "status": {…}} ─────────              every 250 ms, when idle every second
               ── {"budgets": {origin: sentence}} ──────────────▶              when it changes, see `budgets.py`
               ── {"prepare": number, "config"}, then {"commit"|"abort": number} ─▶   of a reload (`reload.py`)
               ◀─ {"done": "prepare"|"commit", "number", "objection"} ──         "" when it is done
               ── {"drain": seconds} ──────────────────────────▶              at SIGTERM
               ◀─ {"drained": true if nothing was cut} ─────────              then the worker ends

Either side's end of file means that the other process is gone. The supervisor never touches a request, and
no worker knows of another's process.
"""
