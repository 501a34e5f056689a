"""The admin listener: health, metrics, REST and the console. Lives in the supervisor, which knows what all workers
said last, so that it answers while workers are busy, starting or dead. It reads; all that it changes is to have the
config file read again.

`app.py` routes and errors, `guard.py` who may ask, `status.py` what `/api/v1/status` says, `static/` the console.
"""
