"""The command line: `python -m lab COMMAND`.

Every command prints a table for people and, with `--json`, one compact JSON document as the last line of stdout. Progress goes to stderr.
"""
