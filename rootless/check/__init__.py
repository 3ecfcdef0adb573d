"""``rootless check-policy`` and ``rootless policy``: programs of their own, without the daemon.

They join the command line's parser of ``run`` with the policy, and nothing
imports them: ``cli/commands/host.py`` finds them by name.
"""
