"""Backup and restore: everything a deployment is, as files in a folder or an object store, and back into an empty cluster.

Read `manifest` (what a backup is), `cut` (which moment it holds, and why that moment is one), `run` (making one), `restore`.
"""
