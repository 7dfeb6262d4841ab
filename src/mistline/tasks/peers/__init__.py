"""Published methods beside ours, on the same files and splits, each in an environment of its own.

`environment` makes that environment from a lock, `exchange` writes a method's input and reads its result, `run`
starts its script. `run_<method>.py` are those scripts: they import the method, never this package.
"""
