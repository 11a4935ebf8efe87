"""Helpers of all rooms, which know nothing of scenes or networks.

- ``errors``: the one base class of errors that a user can mend. Raise it with the file, what is wrong, and the remedy.
- ``commandline``: how every command ends, its device options, types of options; ``options``: options from a dataclass.
- ``files``: writing that a crash cannot halve; ``lock``: one run at a time in a folder.
- ``paths`` and ``checkout``: where data and weights lie, and what needs a checkout.

Change ``files`` and ``lock`` with care: resuming rests on them (tests/test_files.py, tests/test_resume.py).
"""
