"""Helpers for all rooms, which know nothing of scenes or networks.

- ``errors``: the one base class of errors that a user can fix. Raise it with the file, what is wrong, and the remedy.
- ``commandline``: the end of every command, its device options, types of options; ``options``: options from a dataclass.
- ``files``: writing that a crash cannot halve; ``lock``: one run at a time in a folder.
- ``paths`` and ``checkout``: the folders of data and weights, and commands that need a checkout.

Change ``files`` and ``lock`` with care: resuming depends on them (tests/test_files.py, tests/test_resume.py).
"""
